"""`rram check` and `rram safe` as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from firmware_bridge import board_spec, microcode, registers
from firmware_bridge.agent import Agent
from firmware_bridge.assembly import assemble
from firmware_bridge.chips import ads8324
from firmware_bridge.server import TcpServer
from rram_host import open_board
from rram_host.board.rescue import Rails, make_safe
from rram_host.cli import cli, main
from rram_host.errors import BoardFault, ContractError, LinkError
from sim.board import EmulatedBoard
from tests.board.host_programs import host_program

SAMPLE = Path(__file__).parents[2] / "bench_scripts" / "programs" / "read_cell.rram"
SPEC = board_spec.load()


def _run(*arguments: object):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


# ---- rram check -----------------------------------------------------------------------------


def test_the_sample_reads_the_cell_that_it_names():
    """On a board whose cell (3, 5) alone conducts: 0.1 V across 50 uS are 5 uA."""
    emulated = EmulatedBoard("ideal")
    cells = emulated.bench.cells
    cells.formed[3, 5], cells.g[3, 5] = True, 50e-6
    with open_board(emulated) as board:
        program = microcode.Assembler()
        program._items = microcode.decode(assemble(SAMPLE.read_text()).tolist())[:-1]
        words = board._core.driver.run(program)
    code = int(ads8324.to_signed(words[3:4])[0])
    lsb_a = SPEC.current_lsb_a(2)
    assert abs(-code * lsb_a) == pytest.approx(5e-6, abs=0.1e-6)


def test_a_program_is_listed_with_times_lines_and_budgets():
    said = _run("check", SAMPLE)
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert lines[0].split() == ["word", "time/us", "instruction"]
    assert "SL3 at their amplifiers; SL0-2, SL4-31 open" in lines[2]
    assert any(line.endswith("BL5 = 1 V") for line in lines)
    assert any(line.endswith("WL3 = 3.3 V") for line in lines)
    assert lines[-1] == "no rule is broken"
    assert "highest WL               3.3 V, WL3" in lines
    duration_s = microcode.total_cycles(microcode.decode(assemble(SAMPLE.read_text()))) * 1e-8
    assert f"time                     {duration_s:.6g} s" in lines


def test_a_broken_rule_is_named_and_the_exit_code_is_1(tmp_path):
    path = tmp_path / "hot.rram"
    path.write_text(SAMPLE.read_text().replace("0xCCCD", "0xFFFF"))
    said = _run("check", path)
    assert said.exit_code == 1
    assert "REFUSED READ_VOLTAGE, cell (3, 5): bit line too far from a source line" in said.output
    assert "0.35 V, limit 0.1102 V" in said.output
    assert said.output.splitlines()[-1] == "1 of the programs would be refused"


def test_binary_words_with_a_table_and_json(tmp_path):
    words, table = host_program("set", SPEC)
    (tmp_path / "set.bin").write_bytes(words.astype("<u4").tobytes())
    np.save(tmp_path / "codes.npy", table)
    said = _run("check", tmp_path / "set.bin", "--table", tmp_path / "codes.npy", "--json")
    assert said.exit_code == 0, said.output
    found = json.loads(said.output)["programs"][0]
    assert found["passed"] and found["violations"] == []
    assert found["pulses"] == np.count_nonzero(np.sum(found["cell_pulses"], axis=0))
    without = _run("check", tmp_path / "set.bin", "--json")
    assert without.exit_code == 1
    assert json.loads(without.output)["programs"][0]["violations"][0]["rule"] == "TABLE_OVERRUN"


def test_a_recording_is_checked_program_by_program(tmp_path):
    trace = tmp_path / "trace.jsonl"
    with open_board("sim://?preset=ideal", trace=trace) as board:
        board.array.read()
        board.array.vmm(np.full((3, 32), 0.05))
        programs = board.traffic.programs
    said = _run("check", trace)
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert len(lines) == programs + 1
    assert all(line.endswith(": passes") for line in lines[:-1])
    assert "holds the tables" in str(_run("check", trace, "--table", trace).exception)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.rram", b"JUMP 3\nEND\n", "line 1: no operation JUMP"),
        ("a.rram", b"\xff\xfe", "is not text; binary words are called .bin"),
        ("a.bin", b"123", "3 bytes are not 1 to 16384 words"),
        ("a.bin", b"", "0 bytes are not 1 to 16384 words"),
        ("a.jsonl", b"{}\n", "is not a recording"),
    ],
)
def test_what_is_no_program_is_exit_code_2(tmp_path, name, content, said, capsys):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SystemExit) as left:
        main(["check", str(path)])
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_codes_that_are_none_are_refused(tmp_path):
    np.save(tmp_path / "codes.npy", np.array([1.5, 2.0]))
    found = _run("check", SAMPLE, "--table", tmp_path / "codes.npy")
    assert "codes are whole numbers of 0..65535" in str(found.exception)


def test_words_that_do_not_decode_are_refused_by_rule(tmp_path):
    (tmp_path / "a.bin").write_bytes(np.array([0xF000_0000, 0], dtype="<u4").tobytes())
    found = _run("check", tmp_path / "a.bin")
    assert found.exit_code == 1
    assert "REFUSED BAD_INSTRUCTION" in found.output


# ---- rram safe ------------------------------------------------------------------------------


def _lit(emulated: EmulatedBoard) -> None:
    """A host that has died with its lines up."""
    board = open_board(emulated)
    driver, program = board._core.driver, board._core.program()
    driver.checker = None
    program.open_for_reads(np.arange(32), 0)
    driver.run(program)
    assert emulated.truth.rails_v["WL3"] > 3


def test_rails_that_a_dead_host_left_up_come_down():
    emulated = EmulatedBoard("ideal")
    _lit(emulated)
    rails = make_safe(emulated)
    assert rails == Rails(False, False, 0, False, True) and rails.safe
    volts = emulated.truth.rails_v
    assert all(volts[f"{kind}{k}"] == 0 for kind in ("BL", "WL", "SL") for k in range(32))


def test_a_board_that_was_never_opened_gets_a_safe_program_first():
    emulated = EmulatedBoard("ideal")
    assert make_safe(emulated).loaded
    assert not make_safe(emulated).loaded
    with open_board(emulated) as board:
        board.array.read()


class _Altered:
    """A board whose words read differently, or that refuses what a bridge would refuse."""

    def __init__(self, board, readonly: bool = False, **words: int) -> None:
        self._board, self._readonly = board, readonly
        self._words = {registers.offset(name): word for name, word in words.items()}

    def read(self, address, count):
        words = self._board.read(address, count)
        for place, word in self._words.items():
            if address <= place < address + 4 * count:
                words[(place - address) // 4] = word
        return words

    def write(self, address, words):
        if self._readonly and address != registers.offset("CTRL"):
            raise LinkError("127.0.0.1:9 writes")
        self._board.write(address, words)

    def close(self):
        self._board.close()


def test_another_version_of_the_contract_is_no_reason_not_to():
    emulated = EmulatedBoard("ideal")
    _lit(emulated)
    rails = make_safe(_Altered(emulated, CONTRACT_HASH=1))
    assert rails.safe and not rails.same_contract
    assert "of another version" in str(rails)
    assert emulated.truth.rails_v["WL3"] == 0


def test_another_writer_is_no_reason_not_to_unless_there_is_no_safe_program():
    emulated = EmulatedBoard("ideal")
    with pytest.raises(BoardFault, match=r"no safe program, and takes none: 127.0.0.1:9 writes"):
        make_safe(_Altered(emulated, readonly=True))
    with pytest.raises(ContractError, match="no safe program, and is of another version"):
        make_safe(_Altered(emulated, CONTRACT_HASH=1))
    _lit(emulated)
    assert make_safe(_Altered(emulated, readonly=True)).safe


def test_what_is_no_board_is_not_written_to():
    with pytest.raises(ContractError, match="no RRAM board"):
        make_safe(_Altered(EmulatedBoard("ideal"), IDENT=5))


def test_rails_that_stay_up_are_told():
    emulated = EmulatedBoard("ideal")
    stuck = registers.STATUS_FAULT | registers.STATUS_LIVE
    rails = make_safe(_Altered(emulated, STATUS=stuck, FAULT_CODE=4))
    assert not rails.safe
    assert str(rails).startswith("rails are still up")
    assert "stopped by NOT_SETTLED" in str(rails)


def test_the_command_says_what_the_rails_are():
    said = _run("safe", "--board", "sim://?preset=ideal", "--json")
    assert said.exit_code == 0
    assert json.loads(said.output) == {
        "safe": True,
        "busy": False,
        "live": False,
        "fault": 0,
        "loaded_safe_program": True,
        "same_contract": True,
    }
    assert _run("safe", "--board", "nowhere://x").exception is not None


def test_over_a_bridge_while_another_host_writes():
    """The other host has lines up and goes on holding the pen."""
    emulated = EmulatedBoard("ideal")
    with TcpServer(Agent(emulated)) as server:
        url = f"socket://{server.host}:{server.port}"
        with open_board(url) as board:
            driver, program = board._core.driver, board._core.program()
            driver.checker = None
            program.open_for_reads(np.arange(32), 0)
            driver.run(program)
            assert emulated.truth.rails_v["WL3"] > 3
            rails = make_safe(url, timeout_s=20)
            assert rails.safe and not rails.loaded
            assert emulated.truth.rails_v["WL3"] == emulated.truth.rails_v["BL3"] == 0


def test_the_command_takes_no_board_for_granted():
    said = _run("safe")
    assert said.exit_code == 2
    assert "rails are safe" not in said.output
