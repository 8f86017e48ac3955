"""Any order of operations of the host on an emulated board keeps the board's invariants."""

import math
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rram_host import open_board
from sim.board import open_url

COLUMNS = st.integers(0, 31)
ROWS = st.integers(0, 31)
SIEMENS = st.floats(5e-6, 110e-6)


class BoardInUse(RuleBasedStateMachine):
    """A lab's day on an ideal board with a state file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sim://?preset=ideal&state={Path(self.folder.name) / 'board'}"
        self.asked = np.zeros((32, 32), dtype=np.int64)
        self.cycles = 0
        self.board = None

    def teardown(self) -> None:
        self.board.close()
        self.folder.cleanup()

    @initialize()
    def open(self) -> None:
        self.emulated = open_url(self.url)
        self.board = open_board(self.emulated)

    @rule(row=ROWS, col=COLUMNS, width=st.integers(1, 4))
    def form(self, row, col, width) -> None:
        mask = np.zeros((32, 32), dtype=bool)
        mask[row : row + width, col : col + width] = True
        report = self.board.array.form(mask)
        self.asked += report.pulses
        assert not report.pulses[~mask].any()
        assert not report.unformed.any()

    @rule(row=ROWS, col=COLUMNS, wl_v=st.floats(0.8, 2.0))
    def set(self, row, col, wl_v) -> None:
        mask = np.zeros((32, 32), dtype=bool)
        mask[row, col] = True
        before = self.emulated.truth.conductances_siemens
        self.board.array.set_cells(mask, np.full((32, 32), wl_v))
        after = self.emulated.truth.conductances_siemens
        self.asked += mask
        assert (after >= before).all()
        assert np.array_equal(after[~mask], before[~mask])

    @rule(row=ROWS, columns=st.sets(COLUMNS, min_size=1, max_size=8), volts=st.floats(1.0, 2.4))
    def reset(self, row, columns, volts) -> None:
        mask = np.zeros((32, 32), dtype=bool)
        mask[row, list(columns)] = True
        before = self.emulated.truth.conductances_siemens
        self.board.array.reset_cells(mask, np.full((32, 32), volts))
        after = self.emulated.truth.conductances_siemens
        self.asked += mask
        assert (after <= before).all()
        assert np.array_equal(after[~mask], before[~mask])

    @rule(wishes=st.dictionaries(st.tuples(ROWS, COLUMNS), SIEMENS, min_size=1, max_size=5))
    def program(self, wishes) -> None:
        wanted = np.full((32, 32), np.nan)
        for place, value in wishes.items():
            wanted[place] = value
        report = self.board.array.program(wanted)
        self.asked += report.pulses + report.form_pulses
        assert report.failed == []

    @rule()
    def read(self) -> None:
        g = self.emulated.truth.conductances_siemens
        assert np.abs(self.board.array.read() - g).max() < 0.1e-6
        assert np.array_equal(self.emulated.truth.conductances_siemens, g)

    @rule(seed=st.integers(0, 1000), n=st.integers(1, 20))
    def multiply(self, seed, n) -> None:
        g = self.emulated.truth.conductances_siemens
        volts = np.random.default_rng(seed).uniform(-0.1, 0.1, (n, 32))
        products = self.board.array.products(volts)
        # half a DAC step on 32 cells, and a code
        step = 1.25 / 65536 / 2 * g.sum(1)
        assert (np.abs(products.currents_a - volts @ g.T) < step + 1.1 * products.lsb_a).all()
        assert np.array_equal(self.emulated.truth.conductances_siemens, g)

    @rule()
    def close_and_reopen(self) -> None:
        before = self.emulated.truth
        self.board.close()
        self.emulated = open_url(self.url)
        assert np.array_equal(self.emulated.truth.conductances_siemens, before.conductances_siemens)
        self.board = open_board(self.emulated)

    @invariant()
    def pulses_are_those_asked_for(self) -> None:
        if self.board:
            assert np.array_equal(self.emulated.truth.pulses, self.asked)

    @invariant()
    def conductances_are_positive_and_finite(self) -> None:
        if self.board:
            g = self.emulated.truth.conductances_siemens
            assert np.isfinite(g).all() and (g > 0).all()

    @invariant()
    def rails_are_safe(self) -> None:
        if self.board:
            rails = self.emulated.truth.rails_v
            for line in range(32):
                assert rails[f"BL{line}"] == rails[f"WL{line}"] == 0.0
                assert math.isnan(rails[f"SL{line}"]) or rails[f"SL{line}"] == 0.0

    @invariant()
    def the_board_clock_never_runs_back(self) -> None:
        if self.board:
            assert self.emulated.clock.cycles >= self.cycles
            self.cycles = self.emulated.clock.cycles


TestBoardInUse = BoardInUse.TestCase
TestBoardInUse.settings = settings(max_examples=12, stateful_step_count=12)
