"""Files for the board's Linux agree with the contract and with the bridge's own options."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_bridge import __main__ as bridge
from firmware_bridge import registers

DEPLOY = Path(bridge.__file__).parent / "deploy"
SETTINGS = dict(
    line.split("=", 1)
    for line in (DEPLOY / "rram-bridge.default").read_text().splitlines()
    if re.match(r"\w+=", line)
)


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "rram-bridge.service")
    return dict(parser["Service"])


def test_the_bridge_takes_what_the_service_starts_it_with():
    command = service()["ExecStart"]
    for name, value in SETTINGS.items():
        assert f"${name}" in command
        command = command.replace(f"${name}", value)
    python, dash_m, room, *options = shlex.split(command)
    assert (Path(python).name, dash_m, room) == ("python3", "-m", "firmware_bridge")
    taken = bridge._parser().parse_args(options)
    assert taken.board == f"mmio://{registers.WINDOW_BASE:#X}?via=devmem".replace("0X", "0x")
    assert (taken.tcp, taken.hislip) == (["127.0.0.1:5025"], ["127.0.0.1:4880"])


def test_systemd_accepts_the_service(tmp_path: Path):
    if not shutil.which("systemd-analyze"):
        assert {"ExecStart", "EnvironmentFile", "WorkingDirectory"} <= set(service())
        return
    copy = shutil.copy(DEPLOY / "rram-bridge.service", tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if "rram-bridge.service" in line]
    assert [line for line in told if "not executable" not in line] == []  # of another machine


@pytest.mark.parametrize("text", ["rram@{base:x} {{", "reg = <{base:#x} {size:#x}>;"])
def test_the_device_tree_node_is_the_window(text: str):
    wanted = text.format(base=registers.WINDOW_BASE, size=registers.WINDOW_BYTES)
    assert wanted in (DEPLOY / "rram.dtsi").read_text()
