"""What tests of commands share."""

from __future__ import annotations

import pytest

from rram_host.cli import main
from tests.training_rig import Rram


@pytest.fixture
def rram(capsys: pytest.CaptureFixture[str]) -> Rram:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
