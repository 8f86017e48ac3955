"""The bring-up guide is carried out: its console blocks in one shell, answers compared."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import board_spec, contract, registers

ROOM = Path(__file__).parents[2] / "firmware_bridge"
GUIDE = (ROOM / "BRING_UP.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
PATIENCE_S = 600.0
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
END = "--- end of the answer, exit code "


def steps(block: str) -> list[tuple[str, str]]:
    """Commands of a block, each with what it shall print."""
    found = []
    for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *rest = text.splitlines()
        while rest and rest[0].startswith("> "):
            command += "\n" + rest.pop(0)[2:]
        found.append((command, "\n".join(rest) + "\n" if rest else ""))
    return found


class Shell:
    """One bash, so that functions and jobs of earlier commands are still there."""

    def __init__(self, folder: Path) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PATH": path, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self._clock = threading.Timer(PATIENCE_S, self._kill)
        self._clock.start()

    def run(self, command: str) -> tuple[str, int]:
        """What a command prints, and its exit code; one that ends in `&` stays behind."""
        self._bash.stdin.write(f"{command}\necho '{END}'$?\n")
        self._bash.stdin.flush()
        said = ""
        for line in self._bash.stdout:
            before, found, code = line.partition(END)
            said += before
            if found:
                return said, int(code)
        raise AssertionError(f"the shell ended in the middle of {command!r}: {said}")

    def next_line(self) -> str:
        """One line of a command that was left behind."""
        return str(self._bash.stdout.readline())

    def close(self) -> None:
        """End the shell and the jobs in it."""
        self._clock.cancel()
        self._bash.stdin.write("kill $(jobs -p); wait\nexit\n")
        self._bash.stdin.close()
        try:
            rest = self._bash.stdout.read()
            assert "Traceback" not in rest, rest
            self._bash.wait(timeout=30)
        finally:
            self._kill()
            self._bash.stdout.close()
            self._bash.wait()

    def _kill(self) -> None:
        """All of them: a bridge that is left would keep the pipe open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


def test_every_console_block_does_what_the_guide_says(shell: Shell):
    matches = doctest.OutputChecker().check_output
    given = {"bench_scripts/": f"{ROOM.parent / 'bench_scripts'}/"}
    for command, wanted in [step for block in BLOCKS for step in steps(block)]:
        if command.endswith("&"):  # a bridge: it takes a free port in place of the guide's
            place = re.search(r"127\.0\.0\.1:\d+", command)[0]
            said, code = shell.run(command.replace(place, "127.0.0.1:0"))
            said = said or shell.next_line()
            given[place] = said.strip().rpartition("//")[2]
        else:
            said, code = shell.run(_with(given, command))
        said = _with({there: here for here, there in given.items()}, said)
        assert matches(wanted, said, FLAGS), f"$ {command}\n{said}"
        assert code == 0, f"$ {command}\nexit code {code}\n{said}"


def _with(given: dict[str, str], text: str) -> str:
    for here, there in given.items():
        text = text.replace(here, there)
    return text


def test_the_guide_has_the_steps_in_their_order():
    commands = [command for block in BLOCKS for command, _ in steps(block)]
    first = [
        next(n for n, c in enumerate(commands) if c.startswith(f"rram {w}"))
        for w in ("info", "selftest", "calibrate")
    ]
    assert first == sorted(first)


# ---- what is copied to the board ----------------------------------------------------------------


def with_numpy_alone(python: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """A Python that finds its standard library and numpy: command, and environment."""
    if python == sys.executable:
        folder.mkdir()
        for part in Path(np.__file__).parents[1].glob("numpy*"):
            (folder / part.name).symlink_to(part)
        return [python, "-S", "-W", "error"], {"PYTHONPATH": str(folder)}
    probe = [python, "-c", "import numpy"]
    if not shutil.which(python) or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no python3.10 with numpy on PATH")
    return [python, "-W", "error"], {}


def asked(port: int, line: bytes) -> bytes:
    """The answer to one line of text."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        link.sendall(line)
        with link.makefile("rb") as answers:
            return answers.readline()


def a_board_as_a_file(path: Path) -> None:
    """A window that says who it is, in place of /dev/uio0."""
    spec, words = board_spec.load(), np.zeros(registers.WINDOW_BYTES // 4, np.uint32)
    for name, value in {
        "IDENT": registers.IDENTITY,
        "CONTRACT_HASH": contract.contract_hash(),
        "GEOMETRY": spec.rows << 16 | spec.cols,
        "CONVERTERS": spec.dac_chips << 16 | spec.adcs,
    }.items():
        words[registers.offset(name) // 4] = value
    words.tofile(path)


@pytest.mark.parametrize("python", [sys.executable, "python3.10"], ids=["this", "python3.10"])
def test_the_folder_alone_serves_a_window_with_nothing_but_numpy(python: str, tmp_path: Path):
    command, places = with_numpy_alone(python, tmp_path / "libraries")
    shutil.copytree(
        ROOM, tmp_path / "rram" / ROOM.name, ignore=shutil.ignore_patterns("__pycache__")
    )
    a_board_as_a_file(tmp_path / "uio0")
    options = ["-m", ROOM.name, "--board", f"mmio://{tmp_path / 'uio0'}", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, *options],
        cwd=tmp_path / "rram",
        env={"PATH": os.environ["PATH"], **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as bridge:
        try:
            ready = bridge.stdout.readline()
            assert ready.startswith("ready: socket://"), bridge.stderr.read()
            assert asked(int(ready.rpartition(":")[2]), b"*IDN?;:REG? GEOMETRY\n") == (
                b"RRAM,zc706,0,1.0;2097184\n"
            )
        finally:
            bridge.terminate()
        assert bridge.wait(timeout=30) == 0, bridge.stderr.read()
