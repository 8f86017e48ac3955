"""The batched interpreter is the scalar one: bit for bit without noise, in law with noise."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from firmware_bridge import registers
from firmware_bridge.microcode import Op
from sim import batched as batched_module
from sim import presets
from sim.board import EmulatedBoard
from tests.sim.programs import (
    ALL_CHIPS,
    BL_CHIPS,
    CTRL_CLEAR_FAULT,
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
    unlock,
    with_cells,
)

SHOWN = [r.name for r in registers.REGISTERS if r.access == "ro"]
NOISE = (
    "cycle_spread",
    "cycle_floor_siemens",
    "read_noise",
    "adc_noise_lsb",
    "relax_siemens2_per_decade",
    "relax_mean_siemens_per_decade",
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
        "chain": None if bench.chain is None else bench.chain.tolist(),
        "lines": (bench.enable, bench.oe, bench.tia_range),
        "cycles": board.clock.cycles,
        "last update": board._sequencer._last_update,
        "noise": board._rng.bit_generator.state,
    }


def _pair(preset: str) -> tuple[EmulatedBoard, EmulatedBoard]:
    scalar, batched = (
        with_cells(EmulatedBoard(preset, seed=3, spec=small_spec(), batched=batched))
        for batched in (False, True)
    )
    return scalar, batched


@pytest.mark.parametrize("kind", ["ideal", "quiet"])
def test_batched_and_scalar_interpreter_are_equal_bit_for_bit(kind, quiet_preset, monkeypatch):
    seen: Counter[str] = Counter()
    commit = batched_module._Batch.commit

    def counted(batch):
        seen["batches"] += 1
        commit(batch)

    monkeypatch.setattr(batched_module._Batch, "commit", counted)
    preset = quiet_preset if kind == "quiet" else kind

    @settings(max_examples=2 * settings.default.max_examples // 3)
    @given(cases(), cases(), cases(prologue=False))
    def law(first, second, third):
        scalar, batched = _pair(preset)
        for case in (first, third, second):
            for board in (scalar, batched):
                run_case(board, case)
            mine, reference = _everything(batched), _everything(scalar)
            assert {k: (mine[k], v) for k, v in reference.items() if mine[k] != v} == {}
            seen["programs"] += 1
            seen["done"] += not register(scalar, "STATUS") & FAULT
            seen["moved"] += bool((scalar.bench.cells.pulses > 0).any())
            seen[f"fault {register(scalar, 'FAULT_CODE')}"] += 1
            for board in (scalar, batched):
                put(board, "CTRL", CTRL_CLEAR_FAULT)

    law()
    print(seen)
    # A comparison of faults alone, or of a path that is never taken, would prove nothing.
    assert seen["batches"] > 5
    assert seen["done"] > 5
    assert seen["moved"] > 3
    assert len([key for key in seen if key.startswith("fault")]) >= 6


def test_loops_of_reads_in_any_order_are_equal_bit_for_bit(quiet_preset, monkeypatch):
    seen: Counter[str] = Counter()
    commit = batched_module._Batch.commit

    def counted(batch):
        seen["batches"] += 1
        commit(batch)

    monkeypatch.setattr(batched_module._Batch, "commit", counted)

    @settings(max_examples=2 * settings.default.max_examples)
    @given(read_cases())
    def law(case):
        boards = _pair(quiet_preset)
        for board in boards:
            run_case(board, case)
        scalar, batched = map(_everything, boards)
        assert {k: (batched[k], v) for k, v in scalar.items() if batched[k] != v} == {}
        seen["loops"] += sum(item.op is Op.LOOP for item in case.items)
        seen[f"fault {scalar['FAULT_CODE']}"] += 1

    law()
    print(seen)
    assert seen["batches"] > seen["loops"] / 10
    assert seen["fault 0"] > 5 and seen["fault 2"] + seen["fault 5"] > 0


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
    assert _everything(batched) == _everything(scalar)


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
        *[ins(Op.DAC, addr, BL_CHIPS, REST + 5000) for addr in (8, 9)],
        *[ins(Op.DAC, addr, 4, 43254) for addr in (8, 9, 10, 15)],
        LATCH,
        SETTLE,
        ins(Op.LINES, value=9 | 2 << 1),
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
