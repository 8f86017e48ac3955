"""What Ctrl-C says: of rails only where there were any."""

from __future__ import annotations

import pytest

from rram_host.array.crossbar import Crossbar
from rram_host.cli import main
from rram_host.experiments import estimate, lattice_run, physics_check
from rram_host.flows import ship
from rram_host.session import Board


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "name", "command"),
    [
        (lattice_run, "run", "hmc --L 4 -n 640"),
        (physics_check, "check_physics", "check-physics --quick"),
        (estimate, "estimate", "estimate"),
        (ship, "ship", "train --preset phi4_L4 --out DIR"),
    ],
)
def test_without_a_board_nothing_is_said_of_rails(
    module: object,
    name: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr(Board, "any_opened", False)
    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(SystemExit) as ended:
        main(command.replace("DIR", str(tmp_path_factory.mktemp("out"))).split())
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "rram: interrupted"


def test_with_a_board_its_rails_are_spoken_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Board, "any_opened", False)
    monkeypatch.setattr(Crossbar, "read", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["read", "--board", "sim://?preset=ideal"])
    assert ended.value.code == 130
    told = capsys.readouterr().err.strip()
    assert told == "rram: interrupted; rails of an open board were made safe"
