"""open_board: from a URL to a board that is checked, limited and safe."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from firmware_bridge import board_spec, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.contract import contract_hash
from firmware_bridge.microcode import CLOCK_HZ
from firmware_bridge.recording import refuse_existing
from rram_host.array.calibrate import CalibrationPlan, measure
from rram_host.array.calibration import Calibration
from rram_host.array.crossbar import Crossbar
from rram_host.board.core import BoardCore
from rram_host.board.diagnosis import Diagnosis, diagnose
from rram_host.board.self_test import SelfTest
from rram_host.board.sequencer import Progress, SequencerDriver, Traffic
from rram_host.board.waiting import clock_cycles
from rram_host.errors import InputError
from rram_host.passport import Passport, Recorder, with_formed, without_formed
from rram_host.transports import open_transport
from rram_host.transports.base import Snapshots, Transport
from rram_host.transports.tap import Listener, Tap, recorded

# Two attempts of a RESET and a SET each.
EXERCISE_PULSES = 4


class Board:
    """An open board. Use it as a context manager: leaving it makes the rails safe.

    Attributes:
        array: the crossbar, in siemens, volts and amperes.
        spec: how the board is wired.
        passport: of the chip; None where the board was opened without.
        opened_clock_s: the board's clock when it was opened, in seconds.
        any_opened: whether this process has opened a board.
    """

    any_opened: ClassVar[bool] = False

    def __init__(
        self,
        transport: Transport,
        spec: BoardSpec,
        name: str,
        check: bool = True,
        passport: Passport | None = None,
        check_map: bool = True,
    ) -> None:
        self._transport, self._tap = transport, Tap(transport)
        self.name, self.spec, self.passport = name, spec, passport
        self._core = BoardCore(self._tap, spec, check)
        self.opened_clock_s = self.clock_s
        self._recorder = Recorder(passport) if passport else None
        self.array = Crossbar(self._core, self._recorder)
        if passport:
            if passport.calibration is not None:
                self.array.use(Calibration.from_dict(passport.calibration))
            if check and check_map:
                self.check_map()
            passport.note_opened(name, spec)
            passport.save()  # what cannot be kept is said before the first pulse
        self._closed = False
        Board.any_opened = True
        atexit.register(self.close)  # a board that nobody closes is made safe all the same

    @property
    def traffic(self) -> Traffic:
        """Transactions, words, programs and board time since opening."""
        return self._core.driver.traffic

    @property
    def board_time_s(self) -> float:
        """Time that programs have taken on the board since opening, in seconds."""
        return self.traffic.board_time_s

    @property
    def clock_s(self) -> float:
        """The board's own clock, since it was switched on, in seconds."""
        return clock_cycles(self._core.driver) / CLOCK_HZ

    @property
    def pulses_since_power_up(self) -> int:
        """Pulse instructions that the board has carried out since it was switched on."""
        return self._core.driver.read_register("PULSE_COUNT")

    @property
    def left_out(self) -> dict[tuple[int, int], str]:
        """Cells that the last programming left out because of the passport, and why."""
        return dict(self._recorder.left_out) if self._recorder else {}

    def info(self) -> dict[str, object]:
        """Identity, geometry, counters and limits, as plain values."""
        chip = {}
        if self.passport:
            chip = {"chip": self.passport.contents.chip, "passport": str(self.passport.file.path)}
        return {**chip, **_facts(self._core.driver, self.spec, self.name)}

    def check_map(self) -> None:
        """Look at the array, and refuse a chip that its passport's map cannot be of.

        Does nothing where there is no passport, or no map in it.

        Raises:
            InputError: the look disagrees grossly with the map.
        """
        if self.passport and self.passport.contents.map is not None:
            self.passport.check_against(self.array.look())

    def self_test(self) -> SelfTest:
        """Check converters and amplifiers; see `rram_host.board.self_test`."""
        return self._core.self_test()

    def calibrate(
        self,
        plan: CalibrationPlan | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Calibration:
        """Calibrate by reads, use it from now on, and write it into the passport, if there is one.

        Raises:
            BoardFault: too few cells conduct to see the lines.
        """
        calibration = measure(self._core, plan, progress)
        if self.passport:
            self.passport.note_calibration(calibration.to_dict())
            self.passport.save()
        self.array.use(calibration)
        return calibration

    def diagnose(
        self, reference_map: npt.ArrayLike | None = None, exercise: bool = False
    ) -> Diagnosis:
        """Measure everything and name what is at fault; see `rram_host.board.diagnosis`.

        Args:
            reference_map: conductances that the chip is known to hold, (rows, cols), siemens or
                nan; without it, exchanged bit lines are not seen.
            exercise: RESET and SET every cell to find stuck ones. Destroys what is stored.

        Raises:
            InputError: the map has another shape.
        """
        cells = self._may_be_exercised() if exercise else None
        return diagnose(self._core.driver, self.spec, self.array, reference_map, cells)

    def _may_be_exercised(self) -> npt.NDArray[np.bool_]:
        """Cells that the passport does not hold back, with enough pulses left for all of it."""
        cells: npt.NDArray[np.bool_] = np.ones(self.array.shape, dtype=bool)
        if self.passport:
            cells &= ~self.passport.dead
            most = self.passport.contents.limits.max_pulses_per_cell
            if most is not None:
                cells &= self.passport.contents.pulses + EXERCISE_PULSES <= most
        return cells

    def wait(self, duration_s: float, progress: Progress | None = None) -> None:
        """Let board time pass, with gates closed, bit lines at zero and source lines at ground.

        The board counts by itself, to 10 ns; an emulated one takes no time of the person's. What
        breaks the wait off (Ctrl-C, an exception of `progress`) makes the rails safe first.

        Args:
            duration_s: 0 to 1e7 s; rounded to 10 ns, and below that up. Waits below some 20 us
                leave source lines open, as every program leaves them.
            progress: called with the seconds that have passed and `duration_s`.

        Raises:
            InputError: negative, not a number, or above 1e7 s.
            LinkError: the board did not come back when it should have.
        """
        self._core.wait(duration_s, progress)

    @contextmanager
    def overheard(self, listener: Listener) -> Iterator[None]:
        """Tell a listener of every transaction with the board while the context lasts."""
        self._tap.listener = listener
        try:
            yield
        finally:
            self._tap.listener = None

    def snapshot(self) -> bytes | None:
        """All that decides the future of an emulated board: cells, noise, clock, generators.

        And which cells the passport, if there is one, calls formed.

        None where the link offers none: silicon keeps its state by itself.
        """
        link = self._transport
        return with_formed(link.snapshot(), self.passport) if isinstance(link, Snapshots) else None

    def restore(self, blob: bytes) -> None:
        """Go on from a snapshot of the same board, to the bit.

        Raises:
            InputError: this board keeps no snapshots, or the snapshot is damaged or of another
                preset, seed or geometry.
        """
        if not isinstance(self._transport, Snapshots):
            raise InputError(f"board {self.name} takes no snapshots: its chip keeps its own state")
        state, formed = without_formed(blob, self.array.shape)
        self._transport.restore(state)
        if self.passport and formed is not None:
            self.passport.put_back(formed)

    def safe(self) -> None:
        """Put the rails into the safe state now: gates closed, bit lines at zero, SLs grounded."""
        self._core.driver.safe()

    def close(self) -> None:
        """Make the rails safe and give the link back. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        try:
            self.safe()
        finally:
            self._core.driver.closed = True
            try:
                self._transport.close()
            finally:
                self._leave_passport()

    def _leave_passport(self) -> None:
        """Save what a call that broke off has noted."""
        if self.passport:
            try:
                self.passport.save()
            finally:
                self.passport.release()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _facts(driver: SequencerDriver, spec: BoardSpec, name: str) -> dict[str, object]:
    return {
        "board": name,
        "board_file": spec.name,
        "identity": f"{registers.IDENTITY:#010x}",
        "contract_hash": f"{contract_hash():#010x}",
        "gateware_version": f"{driver.read_register('VERSION'):#010x}",
        "rows": spec.rows,
        "cols": spec.cols,
        "adcs": spec.adcs,
        "pulses_since_power_up": driver.read_register("PULSE_COUNT"),
        "read_voltage_v": spec.read_voltage_v,
        "bl_limit_v": spec.bl_limit_v,
        "wl_limit_v": spec.wl_limit_v,
        "conductance_window_siemens": [spec.conductance_min_siemens, spec.conductance_max_siemens],
    }


def glance(url: str, spec: str | Path | None = None) -> dict[str, object]:
    """What a board says of itself by reads alone, also while another host writes.

    Args:
        url: of the board.
        spec: how it is wired, as for `open_board`.

    Raises:
        InputError: unknown URL or board file.
        LinkError: the board cannot be reached.
        ContractError: what answers is not a board of this contract and geometry.
    """
    wiring = board_spec.load(spec or "zc706")
    link = open_transport(url)
    try:
        size = (wiring.rows, wiring.cols, wiring.dac_chips, wiring.adcs)
        driver = SequencerDriver(link, *size)
        busy = bool(driver.read_register("STATUS") & registers.STATUS_BUSY)
        return {**_facts(driver, wiring, url), "program_running": busy}
    finally:
        link.close()


def open_board(
    target: str | Transport,
    spec: BoardSpec | str | Path | None = None,
    check: bool = True,
    passport: Passport | str | Path | None = None,
    check_map: bool = True,
    trace: Path | str | None = None,
) -> Board:
    """Open a board, check who it is, set its limits, and reset its converters.

    Args:
        target: a URL (`sim://?preset=taox_180nm&seed=7`, `serial:///dev/ttyUSB0?baud=921600`,
            `mmio://0x43C00000`), or a Transport, such as a `sim.EmulatedBoard`.
        spec: how the board is wired: a BoardSpec, a name in boards/, or a path; default zc706.
        check: refuse a board whose DACs do not answer; False only for `Board.diagnose`.
        passport: of the chip on the board, or its file, begun where there is none. Its calibration
            is used, its limits and dead cells are heeded, and what is done is noted in it.
        check_map: refuse a chip that does not hold what the passport's map says; False to resume a
            run (`record(..., resume=True)`) or to `restore` a snapshot, which may hold less.
        trace: file to record every transaction with the board in, a new one; `replay:///FILE`
            answers from it.

    Raises:
        InputError: unknown URL or board file; a passport that is of another geometry, is in use,
            or cannot be read or written; a trace that exists, or cannot be made.
        LinkError: the board cannot be reached.
        ContractError: what answers is not a board of this contract and geometry.
        BoardFault: a converter does not answer.

    >>> with open_board("sim://?preset=ideal") as board:
    ...     board.array.shape
    (32, 32)
    """
    wiring = spec if isinstance(spec, BoardSpec) else board_spec.load(spec or "zc706")
    known = None if passport is None else _claimed(passport, wiring)
    try:
        return _opened(target, wiring, check, known, check_map, trace)
    except BaseException:
        if known:
            known.release()
        raise


def _opened(
    target: str | Transport,
    wiring: BoardSpec,
    check: bool,
    passport: Passport | None,
    check_map: bool,
    trace: Path | str | None,
) -> Board:
    name = target if isinstance(target, str) else type(target).__name__
    if trace is not None:
        refuse_existing(trace)  # before the board is touched
    transport = open_transport(target)
    try:
        if trace is not None:
            transport = recorded(transport, trace, name, wiring.name)
        return Board(transport, wiring, name, check, passport, check_map)
    except BaseException:
        transport.close()
        raise


def _claimed(passport: Passport | str | Path, spec: BoardSpec) -> Passport:
    """A passport that fits the board and that nobody else writes from now on."""
    known = passport if isinstance(passport, Passport) else Passport.of(passport, spec)
    known.check_fits(spec)
    known.claim()
    return known
