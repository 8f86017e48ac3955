import subprocess
import sys
from pathlib import Path

import pytest

from rram_host.errors import InputError
from rram_host.file_lock import FileLock

HOLDER = """
import sys
from pathlib import Path
from rram_host.file_lock import FileLock
FileLock(Path(sys.argv[1]), "it", "busy").take()
print("taken", flush=True)
sys.stdin.read()
"""


def lock_of(path: Path) -> FileLock:
    return FileLock(path, "file x", "file x is in use")


def test_one_at_a_time_within_a_process(tmp_path: Path):
    first, second = lock_of(tmp_path / "x"), lock_of(tmp_path / "x")
    first.take()
    for other in (first, second):
        with pytest.raises(InputError, match="^file x is in use$"):
            other.take()
    assert (first.held, second.held) == (True, False)
    first.release()
    first.release()
    second.take()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "x")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(InputError, match="in use"):
            lock_of(tmp_path / "x").take()
        other.kill()
        other.wait(timeout=30)
    lock = lock_of(tmp_path / "x")
    lock.take()  # the file it left behind is no hindrance
    lock.release()


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"^file x: cannot write into .*missing: No such file"):
        lock_of(tmp_path / "missing" / "x").take()
