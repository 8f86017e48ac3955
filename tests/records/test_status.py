import json
from pathlib import Path

import pytest

from rram_host.records.run_folder import RunFolder
from rram_host.records.status import ending


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (None, "done", ""),
        (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
        (SystemExit(143), "interrupted", "SIGTERM"),
        (SystemExit(2), "failed", "SystemExit: 2"),
        (SystemExit(250), "failed", "SystemExit: 250"),  # no signal has this number
        (SystemExit("no board"), "failed", "SystemExit: no board"),
        (ValueError("no"), "failed", "ValueError: no"),
    ],
)
def test_folder_and_file_agree_on_how_a_run_ended(error, status, reason, tmp_path: Path):
    assert ending(error) == (status, reason)
    try:
        with RunFolder(tmp_path / "run", "test", {}):
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == status
