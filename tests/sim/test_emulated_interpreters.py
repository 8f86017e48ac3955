"""The batched interpreter is the scalar one: bit for bit without noise, in law with noise."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from firmware_bridge import registers
from firmware_bridge.microcode import Fault, Op
from sim import batched as batched_module
from sim import batched_pulses, presets
from sim.board import EmulatedBoard
from tests.sim.programs import (
    ALL_CHIPS,
    BL_CHIPS,
    CTRL_CLEAR_FAULT,
    DONE,
    END,
    FAULT,
    LATCH,
    REST,
    SETTLE,
    cases,
    ins,
    put,
    read_cases,
    register,
    results,
    run_case,
    shift_of,
    small_spec,
    start,
    state,
    train_cases,
    unlock,
    with_cells,
)

SHOWN = [r.name for r in registers.REGISTERS if r.access == "ro"]
TIMES = ("last_update", "last_closed", "last_shift", "last_reset")
NOISE = (
    "cycle_spread",
    "cycle_floor_siemens",
    "set_cycle_spread_v",
    "reset_cycle_spread_v",
    "read_noise",
    "adc_noise_lsb",
    "relax_siemens2_per_decade",
    "relax_mean_siemens_per_decade",
    "flicker",
    "telegraph_share",
    "telegraph",
)


@pytest.fixture(scope="session")
def quiet_preset(tmp_path_factory) -> str:
    """taox_180nm with every spread over devices and parts, and no noise in time."""
    text = (presets.FOLDER / "taox_180nm.toml").read_text(encoding="utf-8")
    for key in NOISE:
        text, found = re.subn(rf"(?m)^{key} = {{ value = [-\w.]+", f"{key} = {{ value = 0.0", text)
        assert found == 1, key
    path = Path(tmp_path_factory.mktemp("preset")) / "quiet.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def _everything(board: EmulatedBoard) -> dict[str, object]:
    """All that a later program or a person could see, and the state of the noise."""
    bench = board.bench
    return {
        **{name: register(board, name) for name in SHOWN},
        "results": results(board).tolist(),
        "g": bench.cells.g.tolist(),
        "formed": bench.cells.formed.tolist(),
        "pulses": bench.cells.pulses.tolist(),
        "rails": {k: repr(v) for k, v in bench.rails_v().items()},
        "dacs": [(d.buffer, d.active, d.sync, d.gain, d.config, d.broadcast) for d in bench.dacs],
        "born": bench.cells.born_s.tolist(),
        "aged": bench.cells.aged_s,
        "chain": (bench.chain.shift.tolist(), bench.chain.storage.tolist(), bench.latched),
        "lines": (bench.enable, bench.oe, bench.tia_range),
        "cycles": board.clock.cycles,
        "times": {name: getattr(board._sequencer, name) for name in TIMES},
        "slow noise": {name: value.tolist() for name, value in bench.noise.state().items()},
        "noise": (board._rng.bit_generator.state, bench.seed.tolist()),
    }


def _differences(boards) -> dict[str, object]:
    """What is not the same on two boards."""
    one, other = map(_everything, boards)
    return {name: (one[name], value) for name, value in other.items() if one[name] != value}


def _pair(preset: str) -> tuple[EmulatedBoard, EmulatedBoard]:
    scalar, batched = (
        with_cells(EmulatedBoard(preset, seed=3, spec=small_spec(), batched=batched))
        for batched in (False, True)
    )
    return scalar, batched


@pytest.fixture
def seen(monkeypatch) -> Counter[str]:
    """Counts what a test has met; loops that were evaluated as arrays are in it."""
    counts: Counter[str] = Counter()

    def count(kind, name):
        commit = kind.commit

        def counted(batch):
            counts[name] += 1
            commit(batch)

        monkeypatch.setattr(kind, "commit", counted)

    count(batched_module.ReadBatch, "batches")
    count(batched_pulses.PulseBatch, "trains")
    return counts


@pytest.mark.parametrize("kind", ["ideal", "quiet"])
def test_batched_and_scalar_interpreter_are_equal_bit_for_bit(kind, quiet_preset, seen):
    preset = quiet_preset if kind == "quiet" else kind

    @settings(max_examples=2 * settings.default.max_examples // 3)
    @given(cases(), cases(), cases(prologue=False))
    def law(first, second, third):
        boards = _pair(preset)
        for case in (first, third, second):
            for board in boards:
                run_case(board, case)
            assert _differences(boards) == {}
            seen["programs"] += 1
            seen["done"] += not register(boards[0], "STATUS") & FAULT
            seen["moved"] += bool((boards[0].bench.cells.pulses > 0).any())
            seen[f"fault {register(boards[0], 'FAULT_CODE')}"] += 1
            for board in boards:
                put(board, "CTRL", CTRL_CLEAR_FAULT)

    law()
    print(seen)
    # A comparison of faults alone, or of a path that is never taken, would prove nothing.
    assert seen["batches"] > 5
    assert seen["trains"] > 3
    assert seen["done"] > 20
    assert seen["moved"] > 3
    assert len([key for key in seen if key.startswith("fault")]) >= 4


def test_loops_of_reads_in_any_order_are_equal_bit_for_bit(quiet_preset, seen):
    @settings(max_examples=2 * settings.default.max_examples)
    @given(read_cases())
    def law(case):
        boards = _pair(quiet_preset)
        for board in boards:
            run_case(board, case)
        assert _differences(boards) == {}
        seen[f"fault {register(boards[0], 'FAULT_CODE')}"] += 1

    law()
    print(seen)
    assert seen["batches"] > 5
    assert seen["fault 0"] > 5 and seen["fault 2"] + seen["fault 5"] > 0


def test_trains_of_pulses_are_equal_bit_for_bit(quiet_preset, seen):
    @settings(max_examples=2 * settings.default.max_examples)
    @given(train_cases())
    def law(case):
        boards = _pair(quiet_preset)
        for board in boards:
            run_case(board, case)
        assert _differences(boards) == {}
        seen["moved"] += bool((boards[0].bench.cells.born_s > 0).any())
        seen[f"fault {register(boards[0], 'FAULT_CODE')}"] += 1

    law()
    print(seen)
    assert seen["trains"] > 10 and seen["moved"] > 5
    assert seen["fault 15"] + seen["fault 16"] > 0
    assert seen["fault 0"] > 5 and len([key for key in seen if key.startswith("fault")]) >= 3


def test_trains_longer_than_what_is_laid_out_at_a_time_are_equal(quiet_preset, seen, monkeypatch):
    monkeypatch.setattr(batched_pulses, "_CHUNK", 3)
    gates = [ins(Op.DACT, addr, 4, 2 + k) for k, addr in enumerate((8, 9, 10, 15))]
    train = [ins(Op.DACT, 8, BL_CHIPS), *gates, LATCH, SETTLE, ins(Op.PULSE, value=50)]
    table = np.random.default_rng(4).integers(15_000, 50_000, 60).tolist()
    for stride, count in ((6, 10), (0, 7)):
        boards = _pair(quiet_preset)
        for board in boards:
            unlock(board)
            start(
                board,
                [
                    *[ins(Op.DAC, 2, ALL_CHIPS, 0xFF), ins(Op.DAC, 4, ALL_CHIPS, 0xFF), SETTLE],
                    *[OPEN, shift_of((0, 2, 0, 2)), ins(Op.DAC, 9, BL_CHIPS, 30_000)],
                    *[ins(Op.LOOP, value=count), *train, ins(Op.NEXT, value=stride), END],
                ],
                table,
            )
        assert _differences(boards) == {}
        assert register(boards[0], "PULSE_COUNT") == count
        assert (boards[0].bench.cells.born_s > 0).any()
    assert seen["trains"] == 2


@settings(max_examples=settings.default.max_examples // 2)
@given(train_cases())
def test_trains_of_pulses_draw_the_same_noise_in_both_interpreters(case):
    """Noise of a batch of reads is another draw, and so are results; cells are the same."""
    boards = _pair("taox_180nm")
    for board in boards:
        run_case(board, case)
    one, other = (board.bench.cells for board in boards)
    for name, value in one.state().items():
        assert np.array_equal(value, other.state()[name]), name
    assert (boards[0].bench.noise.walks == boards[1].bench.noise.walks).all()


def test_a_latch_inside_a_loop_moves_lines_that_were_written_before_it(monkeypatch):
    scalar, batched = _pair("ideal")
    waiting = 47000
    items = [
        ins(Op.DAC, 2, ALL_CHIPS, 0x00FF),
        ins(Op.DAC, 8, BL_CHIPS, waiting),
        *[ins(Op.LOOP, value=3), ins(Op.DACT, 9, BL_CHIPS), LATCH, SETTLE],
        *[ins(Op.CONV), ins(Op.NEXT), END],
    ]
    for board in (scalar, batched):
        unlock(board)
        start(board, items, [REST, REST])
        assert [dac.active[0] for dac in board.bench.dacs] == [waiting, waiting, 0]
    assert _differences((batched, scalar)) == {}


@pytest.mark.parametrize("batched", [False, True], ids=["scalar", "batched"])
def test_a_latch_that_would_exceed_a_limit_lowered_since_the_write_faults_before_it(batched):
    board = EmulatedBoard("ideal", spec=small_spec(), batched=batched)
    unlock(board)
    start(board, [ins(Op.DAC, 2, ALL_CHIPS, 0x00FF), ins(Op.DAC, 8, 1, 40000), END])
    unlock(board, 39999 // 2 - 1)
    loop = [ins(Op.LOOP, value=2), LATCH, SETTLE, ins(Op.CONV), ins(Op.NEXT), END]
    start(board, loop)
    assert register(board, "FAULT_CODE") == 2
    assert register(board, "FAULT_PC") == 1
    assert board.bench.dacs[0].active[0] == 0


# ---- rules of timing ------------------------------------------------------------------------

OPEN = ins(Op.LINES, value=8)
TO_AMPLIFIERS = shift_of((1, 1, 1, 1))


def _wait(cycles: int):
    """A WAIT takes one cycle more than it says."""
    return ins(Op.WAIT, value=cycles - 1)


def _reading(tia_range: int) -> list:
    """Gates open, bit lines at rest, source lines at their amplifiers; nothing waited for."""
    return [
        *[ins(Op.DAC, 2, ALL_CHIPS, 0x00FF), ins(Op.DAC, 4, 4, 0x00FF), _wait(100)],
        *[ins(Op.DAC, 4, BL_CHIPS, 0x0100), OPEN, TO_AMPLIFIERS],
        *[ins(Op.DAC, addr, BL_CHIPS, REST) for addr in (8, 9)],
        *[ins(Op.DAC, addr, 4, 43254) for addr in (8, 9, 10, 15)],
        LATCH,
        SETTLE,
        ins(Op.LINES, value=9 | tia_range << 1),
    ]


READING_CYCLES = 50 + 50 + 100 + 50 + 1 + 44 + 2 * 50 + 4 * 50 + 50 + 701 + 1
CONV, NARROW = ins(Op.CONV), ins(Op.DAC, 4, 1, 0x0100)
# rule: (program up to what breaks it, what breaks it, cycles between that are enough, fault)
RULES = {
    "closing after SHIFT: 24 cycles": (
        [OPEN, TO_AMPLIFIERS], ins(Op.LINES, value=9), 24, Fault.SWITCH_TOO_SOON),
    "closing after the chain's outputs came on: 24 cycles": (
        [OPEN, TO_AMPLIFIERS, ins(Op.LINES), _wait(100), OPEN],
        ins(Op.LINES, value=9), 24 - 1, Fault.SWITCH_TOO_SOON),
    "pulse after SHIFT: 24 cycles": (
        [LATCH, _wait(1000), OPEN, TO_AMPLIFIERS],
        ins(Op.PULSE, value=24), 24, Fault.SWITCH_TOO_SOON),
    "pulse after an update: 5 us": (
        [OPEN, TO_AMPLIFIERS, LATCH], ins(Op.PULSE, value=24), 500, Fault.NOT_SETTLED),
    "conversion after closing, range 0: 24 + 46 cycles": (
        _reading(0), CONV, 24 + 46, Fault.SWITCH_TOO_SOON),
    "conversion after closing, range 3: 24 + 440 cycles": (
        _reading(3), CONV, 24 + 440, Fault.SWITCH_TOO_SOON),
    "conversion after an update, range 0: 503 cycles": (
        [*_reading(0), _wait(1000), LATCH], CONV, 503, Fault.NOT_SETTLED),
    "conversion after an update, range 3: 666 cycles": (
        [*_reading(3), _wait(1000), LATCH], CONV, 666, Fault.NOT_SETTLED),
    "update after an update: 1 us": ([LATCH], LATCH, 100 - 50, Fault.DAC_UPDATE_TOO_SOON),
    "frame after a soft reset: 250 us": (
        [ins(Op.DAC, 5, 1, 0xA)], NARROW, 25_000, Fault.DAC_IN_RESET),
    "readback after a soft reset: 250 us": (
        [ins(Op.DAC, 5, 1, 0xA)], ins(Op.DREAD, 1, 1), 25_000, Fault.DAC_IN_RESET),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batched", [False, True], ids=["scalar", "batched"])
def test_one_cycle_less_than_a_part_needs_is_a_fault_and_enough_is_none(rule, batched):
    before, late, enough, fault = RULES[rule]
    for cycles in (enough - 1, enough):
        board = EmulatedBoard("ideal", spec=small_spec(), batched=batched)
        unlock(board)
        start(board, [*before, _wait(cycles), late, END])
        if cycles == enough:
            assert state(board) == DONE
            continue
        assert register(board, "FAULT_CODE") == fault
        assert register(board, "FAULT_PC") == sum(1 + len(item.data) for item in before) + 1
        # an update counts from the end of its frame, outputs of the chain from the start of LINES
        own = late.cycles if fault is Fault.DAC_UPDATE_TOO_SOON else 0
        assert register(board, "FAULT_INFO") == cycles + own + ("came on" in rule)
        took = sum(item.cycles for item in before) + cycles + own
        assert register(board, "FAULT_TIME") == took


def test_the_time_of_a_fault_is_in_cycles_of_its_program():
    """Literal: 50 + 50 + 100 + ... + 1 cycles up to closing the switches, then 69 more."""
    board = EmulatedBoard("ideal", spec=small_spec())
    unlock(board)
    start(board, [*_reading(0), _wait(69), CONV, END])
    assert register(board, "FAULT_CODE") == 12
    assert register(board, "FAULT_INFO") == 69
    assert register(board, "FAULT_TIME") == READING_CYCLES + 69


@pytest.mark.parametrize("batched", [False, True], ids=["scalar", "batched"])
def test_select_lines_must_not_move_while_switches_are_closed(batched):
    board = EmulatedBoard("ideal", spec=small_spec(), batched=batched)
    start(board, [OPEN, TO_AMPLIFIERS, _wait(24), ins(Op.LINES, value=9), TO_AMPLIFIERS, END])
    assert register(board, "FAULT_CODE") == Fault.SWITCH_ADDRESS_MOVED
    assert register(board, "FAULT_PC") == 5
    assert register(board, "FAULT_TIME") == 1 + 44 + 24 + 1


@pytest.mark.parametrize("batched", [False, True], ids=["scalar", "batched"])
@pytest.mark.parametrize("looped", [False, True], ids=["once", "in a loop"])
def test_a_pulse_is_at_least_as_long_as_a_switch_needs_to_turn_on(batched, looped):
    for cycles in (23, 24):
        board = EmulatedBoard("ideal", spec=small_spec(), batched=batched)
        unlock(board)
        body = [LATCH, SETTLE, ins(Op.PULSE, value=cycles)]
        if looped:
            body = [ins(Op.LOOP, value=3), *body, ins(Op.NEXT)]
        start(board, [OPEN, TO_AMPLIFIERS, _wait(24), *body, END])
        if cycles == 24:
            assert state(board) == DONE
            assert register(board, "PULSE_COUNT") == (3 if looped else 1)
            continue
        assert register(board, "FAULT_CODE") == Fault.PULSE_TOO_SHORT
        assert register(board, "FAULT_INFO") == 23
        assert register(board, "FAULT_TIME") == 1 + 44 + 24 + looped + 50 + 701
        assert register(board, "PULSE_COUNT") == 0


def test_a_loop_that_breaks_a_rule_later_does_so_in_its_own_iteration(quiet_preset):
    """A limit that the third codes exceed: two pulses happen, and the third does not."""
    boards = _pair(quiet_preset)
    train = [ins(Op.DACT, 8, 1), ins(Op.DACT, 8, 4, 1), LATCH, SETTLE, ins(Op.PULSE, value=100)]
    items = [
        *[ins(Op.DAC, 2, ALL_CHIPS, 0x00FF), ins(Op.DAC, 4, ALL_CHIPS, 0x00FF), _wait(100)],
        *[OPEN, shift_of((0, 0, 0, 0)), _wait(24)],
        *[ins(Op.LOOP, value=4), *train, ins(Op.NEXT, value=2), END],
    ]
    for board in boards:
        unlock(board, 40_000)
        start(board, items, [24_000, 26_000, 24_000, 30_000, 40_001, 26_000, 24_000, 26_000])
        assert register(board, "FAULT_CODE") == Fault.LIMIT
        assert register(board, "PULSE_COUNT") == 2
        assert (board.bench.cells.pulses > 0).any()
    assert _differences(boards) == {}


def test_saturated_amplifiers_read_the_same_in_both_interpreters(quiet_preset, seen):
    """Range 3 clamps at +-10 uA: four cells of 20 to 100 uS at 0.1 V carry more."""
    boards = _pair(quiet_preset)
    # -0.1 V and +0.1 V on all bit lines, little, and some of each
    table = [41_943] * 4 + [52_428] * 4 + [REST + 300] * 4 + [52_428, 42_000] * 2 + [REST] * 4
    moves = [*[ins(Op.DACT, addr, BL_CHIPS, 2 * (addr - 8)) for addr in (8, 9)], LATCH]
    items = [
        *_reading(3),
        SETTLE,
        *[ins(Op.LOOP, value=5), *moves, SETTLE, CONV, ins(Op.CONV, value=1)],
        *[ins(Op.NEXT, value=4), END],
    ]
    for board in boards:
        unlock(board)
        board.bench.cells.g[:] = np.linspace(20e-6, 100e-6, 16).reshape(4, 4)
        board.bench.cells.formed[:] = True
        start(board, items, table)
    assert _differences(boards) == {}
    assert seen["batches"] == 1
    words = results(boards[0]).astype(int)
    codes = np.where(words >= 0x2000, words - 0x4000, words)
    assert codes.max() > 7900 and codes.min() < -7900 and np.unique(codes).size > 6


# ---- with noise: the same law ---------------------------------------------------------------


def test_noisy_reads_have_the_same_mean_and_variance_in_both_interpreters():
    """4000 conversions of each row; 5 standard errors: 1 in 10^5 for 16 comparisons."""
    n = 4000
    items = [
        ins(Op.DAC, 2, ALL_CHIPS, 0x00FF),
        ins(Op.DAC, 4, 4, 0x00FF),
        ins(Op.WAIT, value=100),
        ins(Op.DAC, 4, BL_CHIPS, 0x0100),
        ins(Op.LINES, value=8),
        shift_of((1, 1, 1, 1)),
        *[ins(Op.DAC, addr, BL_CHIPS, REST + 2500) for addr in (8, 9)],
        *[ins(Op.DAC, addr, 4, 43254) for addr in (8, 9, 10, 15)],
        LATCH,
        SETTLE,
        ins(Op.LINES, value=9 | 2 << 1),
        SETTLE,
        *[ins(Op.LOOP, value=n), ins(Op.CONV), ins(Op.CONV, value=1), ins(Op.NEXT), END],
    ]
    codes = []
    for batched in (False, True):
        board = EmulatedBoard("taox_180nm", seed=3, spec=small_spec(), batched=batched)
        unlock(with_cells(board))
        start(board, items)
        raw = results(board).astype(int).reshape(n, 4)
        codes.append(np.where(raw >= 0x2000, raw - 0x4000, raw))
    one, other = codes
    assert not np.array_equal(one, other)
    variance = (one.var(0, ddof=1) + other.var(0, ddof=1)) / 2
    assert (variance > 0.3).all()
    # standard error of a difference of means, and (Gaussian) of a difference of variances
    assert (np.abs(one.mean(0) - other.mean(0)) < 5 * np.sqrt(2 * variance / n)).all()
    spread = np.abs(one.var(0, ddof=1) - other.var(0, ddof=1))
    assert (spread < 5 * variance * np.sqrt(2 * 2 / n)).all()


def test_a_stretch_that_configures_a_dac_does_so_every_time_it_runs():
    """CONFIG is not among what is remembered of a stretch: the reference runs it each time."""
    reset = [
        ins(Op.LINES, value=0),
        ins(Op.DAC, 5, ALL_CHIPS, 0xA),
        ins(Op.WAIT, value=30_000),
        END,
    ]
    power_down = [
        *[ins(Op.LINES, value=0), ins(Op.WAIT, value=200), ins(Op.DAC, 3, ALL_CHIPS, 1)],
        *[ins(Op.WAIT, value=200), ins(Op.WAIT, value=200), END],
    ]
    for board in _pair("ideal"):
        unlock(board)
        for _ in range(3):
            start(board, reset)
            start(board, power_down)
            assert [dac.config for dac in board.bench.dacs] == [1, 1, 1]


@pytest.mark.parametrize("batched", [False, True], ids=["scalar", "batched"])
def test_a_stretch_that_ran_under_higher_limits_still_faults_under_lower_ones(batched):
    """The limits are part of what a stretch is remembered by."""
    board = EmulatedBoard("ideal", spec=small_spec(), batched=batched)
    items = [
        *[ins(Op.LINES, value=0), ins(Op.DAC, 2, ALL_CHIPS, 0x00FF), ins(Op.WAIT, value=100)],
        *[ins(Op.DAC, 8, 1, 40000), ins(Op.WAIT, value=100), END],
    ]
    for _ in range(3):
        unlock(board)
        start(board, items)
        assert register(board, "FAULT_CODE") == 0
    unlock(board, 1000)
    start(board, items)
    assert (register(board, "FAULT_CODE"), register(board, "FAULT_PC")) == (2, 3)


@pytest.mark.parametrize("batched", [False, True], ids=["scalar", "batched"])
def test_a_stretch_that_ran_long_after_a_reset_still_faults_right_after_one(batched):
    """How long ago things happened is part of what a stretch is remembered by."""
    board = EmulatedBoard("ideal", spec=small_spec(), batched=batched)
    unlock(board)
    reset, rest = ins(Op.DAC, 5, ALL_CHIPS, 0xA), ins(Op.WAIT, value=30_000)
    stretch = [
        *[ins(Op.LINES, value=0), ins(Op.WAIT, value=100), ins(Op.WAIT, value=100)],
        *[ins(Op.DAC, 2, ALL_CHIPS, 0x00FF), ins(Op.WAIT, value=100), END],
    ]
    for _ in range(3):
        start(board, [reset, rest, END])
        start(board, stretch)
        assert register(board, "FAULT_CODE") == 0
    start(board, [reset, END])
    start(board, stretch)
    assert (register(board, "FAULT_CODE"), register(board, "FAULT_PC")) == (10, 3)
