"""What programs cost: phases add up to the cycle, bounds are as worked out by hand."""

from __future__ import annotations

import dataclasses
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import board_spec, microcode
from firmware_bridge.microcode import CLOCK_HZ, Instruction, Op
from rram_host import open_board
from rram_host.array.policies import CoarseFine
from rram_host.board.cost import (
    Bound,
    Cost,
    cost_of,
    executions,
    pulse_bound,
    vector_bound,
    words_bound_s,
)
from rram_host.errors import InputError
from rram_host.experiments import cost as costing
from sim.board import EmulatedBoard

SPEC = board_spec.load()

# ---- phases ---------------------------------------------------------------------------------

_PLAIN = st.one_of(
    st.builds(
        Instruction,
        st.sampled_from([Op.DAC, Op.DACT]),
        st.integers(0, 15),
        st.integers(0, 255),
        st.integers(0, 0xFFFF),
    ),
    st.builds(Instruction, st.just(Op.DREAD), st.integers(0, 15), st.integers(0, 255)),
    st.builds(
        lambda bits: Instruction(Op.SHIFT, value=bits, data=(0,) * -(-bits // 32)),
        st.integers(1, microcode.MAX_CHAIN_BITS),
    ),
    st.builds(lambda n: Instruction(Op.LINES, value=n), st.integers(0, 15)),
    st.builds(lambda n: Instruction(Op.CONV, value=n), st.integers(0, 31)),
    st.builds(
        lambda op, n: Instruction(op, value=n),
        st.sampled_from([Op.WAIT, Op.PULSE, Op.PTR, Op.MARK]),
        st.integers(0, 2**28 - 1),
    ),
)


def _looped(bodies: st.SearchStrategy[list[Instruction]]) -> st.SearchStrategy[list[Instruction]]:
    loop = st.builds(
        lambda count, body, stride: [
            Instruction(Op.LOOP, value=count),
            *body,
            Instruction(Op.NEXT, value=stride),
        ],
        st.integers(1, 2**28 - 1),
        bodies,
        st.integers(0, 0xFFFF),
    )
    return st.lists(loop, max_size=3).map(lambda parts: [item for part in parts for item in part])


_FLAT = st.lists(_PLAIN, max_size=6)
_BODIES = st.recursive(
    _FLAT,
    lambda inner: st.builds(lambda *parts: list(chain(*parts)), _FLAT, _looped(inner), _FLAT),
    max_leaves=6,
)


@given(_BODIES, st.booleans())
def test_phases_of_any_program_add_up_to_its_cycles(body, behind):
    program = [*body, Instruction(Op.END)]
    cost = cost_of(program)
    assert cost.cycles == microcode.total_cycles(program)
    assert min(dataclasses.astuple(cost)) >= 0
    assert sum(cost.phases_s().values()) == pytest.approx(cost.total_s)
    if behind:  # what stands behind the first END is not run
        assert cost_of([*program, Instruction(Op.CONV), Instruction(Op.END)]) == cost


def test_every_phase_is_what_its_instructions_take():
    asm = microcode.Assembler()
    with asm.loop(3, stride=4):
        asm.add(Op.DACT, addr=8, mask=1)
        asm.add(Op.WAIT, value=500)
        with asm.loop(2):
            asm.add(Op.CONV, value=1)
        asm.add(Op.PULSE, value=100)
    asm.add(Op.SHIFT, value=64, data=(0, 0))
    asm.add(Op.LINES, value=8)
    assert executions(asm.instructions()) == [1, 3, 3, 3, 6, 6, 3, 3, 1, 1, 1]
    assert cost_of(asm.instructions()) == Cost(
        dac_words=3 * 50,
        settling=3 * 500,
        switching=64 * 5 + 4 + 1,
        conversions=6 * 2120,
        pulses=3 * 100,
        overhead=1 + 3 * (1 + 1 + 2 * 1 + 1 + 1) + 1,
    )


def test_costs_add_and_subtract_phase_by_phase():
    one, two = Cost(1, 2, 3, 4, 5, 6), Cost(6, 5, 4, 3, 2, 1)
    assert one + two == Cost(7, 7, 7, 7, 7, 7)
    assert one + two - two == one
    assert (one + two).total_s == pytest.approx(42 * 10e-9)


# ---- the bound ------------------------------------------------------------------------------


def test_the_bound_of_a_product_is_as_worked_out_by_hand():
    """8 words of a chip and LDAC, 9 * 495 ns; settling; 32 rows on 8 ADCs, 4 conversions of 20 us.

    Range 0: f = sqrt(20 MHz / (2 pi 3500 ohm 70 pF)) = 3.60 MHz, below 1 / (2 pi R C) = 4.55 MHz;
    ln(2^15) / (2 pi f) = 0.459 us behind the 5 us of the converter: 5.021 us.
    """
    bound = vector_bound(SPEC, 0)
    assert bound.dac_words_s == pytest.approx(4.455e-6)
    assert bound.settling_s == pytest.approx(5.021e-6, abs=0.5e-9)
    assert bound.conversions_s == pytest.approx(80e-6)
    assert bound.pulses_s == 0
    assert bound.total_s == pytest.approx(89.476e-6, abs=1e-9)


def test_the_bound_of_a_pulse_takes_all_64_words_in_parallel_and_the_width():
    bound = pulse_bound(SPEC, 1e-6)
    assert bound.dac_words_s == pytest.approx(4.455e-6)
    assert (bound.settling_s, bound.pulses_s, bound.conversions_s) == (5e-6, 1e-6, 0)


def test_words_of_one_chip_follow_one_another():
    assert words_bound_s([0]) == pytest.approx(2 * 495e-9)
    assert words_bound_s([0, 8, 16]) == pytest.approx(2 * 495e-9)
    assert words_bound_s([0, 1, 8]) == pytest.approx(3 * 495e-9)


def test_bounds_add_and_multiply():
    bound = Bound(1, 2, 3, 4)
    assert bound + bound == bound * 2 == Bound(2, 4, 6, 8)
    assert bound.total_s == 10


# ---- jobs -----------------------------------------------------------------------------------


def test_a_product_on_eight_converters_is_within_15_percent_of_its_bound():
    assert SPEC.adcs == 8
    job = costing.product_job(SPEC)
    assert 1 <= job.ratio <= 1.15
    assert job.cost.pulses == job.cost.switching == 0
    assert job.cost.conversions == 4 * microcode.CYCLES_CONVERT
    assert job.cost.dac_words == 9 * microcode.CYCLES_SPI_WRITE


def test_more_converters_are_faster_and_no_ratio_is_below_one():
    by_converters = costing.by_converters(SPEC)
    assert list(by_converters) == [1, 4, 8, 32]
    times = [job.cost.total_s for job in by_converters.values()]
    assert times == sorted(times, reverse=True)
    assert all(1 <= job.ratio <= 1.15 for job in by_converters.values())
    assert by_converters[8].cost == costing.product_job(SPEC).cost
    # 32 conversions against 1: 31 of them apart, nothing else differs
    apart = by_converters[1].cost - by_converters[32].cost
    assert apart == Cost(conversions=31 * microcode.CYCLES_CONVERT)


def test_a_board_of_few_rows_has_no_more_converters_than_rows():
    small = dataclasses.replace(
        SPEC,
        rows=4,
        wl_channel=(32, 33, 34, 35),
        sl_bit0=(0, 2, 4, 6),
        sl_bit1=(1, 3, 5, 7),
        adcs=4,
        adc_of_row=(0, 1, 2, 3),
        select_of_row=(0, 0, 0, 0),
    )
    assert list(costing.by_converters(small)) == [1, 4]
    assert all(job.ratio >= 1 for job in costing.jobs(small, 3))


def test_every_job_is_at_or_above_its_bound_and_says_what_it_is():
    jobs = {job.name: job for job in costing.jobs(SPEC, 100)}
    assert len(jobs) == 7
    assert all(job.ratio >= 1 for job in jobs.values())
    # 32 columns; 32 rows in two halves of 16 cells
    assert {"SET round, 32 pulses", "RESET round, 64 pulses", "forming step, 32 pulses"} <= set(
        jobs
    )
    assert jobs["forming step, 32 pulses"].cost.pulses == 32 * 10_000
    row = jobs["100 products, calibrated"].row()
    assert row["total_s"] == pytest.approx(sum(row["phases_s"].values()))
    assert row["bound_s"] == pytest.approx(sum(row["bound_phases_s"].values()))
    assert row["bound_s"] == pytest.approx(100 * vector_bound(SPEC, 0).total_s)


@pytest.mark.parametrize("vectors", [0, -1, 100_001])
def test_a_batch_that_cannot_be_is_refused(vectors):
    with pytest.raises(InputError, match=f"vectors = {vectors}: outside 1..100000"):
        costing.jobs(SPEC, vectors)


# ---- against the emulated board -------------------------------------------------------------


@pytest.mark.parametrize("adcs", [1, 8])
def test_estimates_are_what_the_board_says(adcs):
    """RUN_CYCLES of the last program of each job, and all cycles of what takes several."""
    spec = SPEC.with_adcs(adcs)
    emulated = EmulatedBoard("ideal", seed=1, spec=spec)
    emulated.bench.cells.g[:] = costing.CELL_SIEMENS
    emulated.bench.cells.formed[:] = True
    dry, p, cells = costing.DryCrossbar(spec), spec.pulses, np.ones((32, 32), dtype=bool)
    gates, reset_v = np.full((32, 32), 1.2), np.full((32, 32), p.reset_start_v)
    reset, _ = dry.cost_of_reset(p.reset_start_v, 32)
    set_round, _ = dry.cost_of_set(p.set_bl_v, 1.2, p.set_width_s)
    pairs = [
        (dry.cost_of_products(1, False), lambda a: a.products(np.zeros((1, 32)), None, 0, False)),
        (dry.cost_of_products(9000, True), lambda a: a.products(np.zeros((9000, 32)), None, 0)),
        (dry.cost_of_read(4), lambda a: a.read(4)),
        (set_round, lambda a: a.set_cells(cells, gates)),
        (dry.cost_of_read(1) + reset, lambda a: a.reset_cells(cells, reset_v)),
    ]
    with open_board(emulated, spec=spec) as board:
        board.array.read()
        driver = board._core.driver
        for cost, job in pairs:
            before, programs = board.board_time_s, driver.traffic.programs
            emulated_before = emulated.clock.cycles
            job(board.array)
            assert emulated.clock.cycles - emulated_before == cost.cycles
            assert board.board_time_s - before == pytest.approx(cost.total_s, abs=1e-9)
            if driver.traffic.programs == programs + 1:
                assert driver.read_register("RUN_CYCLES_LO") == cost.cycles


def test_a_round_of_write_verify_takes_what_its_estimate_says():
    assert CoarseFine().verify_reads == 1
    job = {job.name: job for job in costing.jobs(SPEC, 1)}["forming step, 32 pulses"]
    with open_board("sim://?preset=ideal&seed=1") as board:
        before = board.board_time_s
        report = board.array.form()
        took = round((board.board_time_s - before) * CLOCK_HZ)
    steps = int(report.pulses.max())
    read = costing.DryCrossbar(SPEC).cost_of_read(1).cycles
    # every cell of the ideal board forms at the same step
    assert took == read + steps * job.cost.cycles
