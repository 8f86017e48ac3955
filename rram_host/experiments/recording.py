"""Running an experiment into a run file, and going on with a run that was broken off.

A resumed run ends with the records of an uninterrupted one, bit for bit where the board can be put
back (the emulated one), because nothing but the chip passes from one unit to the next:

* the board is put back to where it was after the last committed unit (`Snapshots`); a chip of
  silicon keeps its state itself, and sees the unit that was broken off a second time;
* what the host knows from earlier reads is forgotten before every unit, resumed or not;
* the calibration is the one that the run began with;
* random numbers are those of the unit (`unit_rng`).

So no unit may lean on a variable that an earlier one left in `run`, but take it from `done` or from
the rows it yielded itself; and times are `board.clock_s`, not time since the board was opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from firmware_bridge.traffic import TrafficDigest
from rram_host.array.calibration import Calibration
from rram_host.errors import InputError, RecordError, RramError
from rram_host.experiments.agreement import check_same_run, plan_values, spec_values
from rram_host.experiments.experiment import Experiment
from rram_host.experiments.usage import check_unused, counted
from rram_host.records.columns import Batch, Data
from rram_host.records.layout import Header
from rram_host.records.place import check_place
from rram_host.records.run_file import RunFile, State
from rram_host.records.run_folder import plain, versions
from rram_host.records.run_writer import RunWriter, now
from rram_host.records.snapshots import Snapshots
from rram_host.records.status import DONE, INTERRUPTED, ending
from rram_host.session import Board

P = TypeVar("P")
Progress = Callable[[int, int], None]

ASKED = "asked to stop"


def record(
    board: Board,
    experiment: Experiment[P],
    plan: P,
    path: Path | str,
    resume: bool = False,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    force: bool = False,
) -> RunFile:
    """Run an experiment on an open board, and commit its records unit by unit.

    To resume, open the board with `open_board(..., check_map=False)`: an emulated one is put back
    to where the run stopped before it is compared with anything, and a chip of silicon is compared
    with its passport's map here.

    Args:
        board: to run on.
        experiment: what to do.
        plan: its settings.
        path: of the run file; a new one, or with `resume` that of the run to go on with.
        resume: go on after the last committed unit. A run that is done is only read.
        progress: told of (units done, units in all).
        should_stop: asked after every unit; True ends the run well, as interrupted.
        force: resume although the chip was used since, or the board was off, or the run's process
            was on another machine and cannot be asked whether it lives.

    Returns:
        The run, closed.

    Raises:
        InputError: the file cannot be made, is of another run, or the chip was used since; nothing
            has been pulsed or put back then.
        RecordError: the disk filled up; what was committed stays.
        RramError: what the experiment raises; the file says "failed", and can be resumed.
    """
    path = Path(path)
    if not resume:
        check_place(path)
    with RunWriter(path) as writer:
        snapshots = Snapshots(path)
        if resume:
            state = _resumed(board, experiment, plan, writer, snapshots, force)
        else:
            state = _begun(board, experiment, plan, writer, snapshots)
        if state.status != DONE:
            known = _digest(RunFile(path))
            stop, told = should_stop or _never, progress or _silent
            run = _Run(board, writer, snapshots, known, stop, told)
            run.go(experiment, plan, state.units)
    return RunFile(path)


def record_again(
    board: Board,
    experiment: Experiment[P],
    plan: P,
    run: RunFile,
    path: Path,
    progress: Progress | None = None,
) -> RunFile:
    """Do again, into a new file, as many units of a run as it has committed.

    Where the run was resumed, the work is begun anew, as it was then: an experiment may look at
    the board before it goes on.

    A run whose file holds the board's snapshot is begun from that, on a board that takes it;
    another one as `record` begins it, on the board as it is.

    Args:
        board: of the same preset, seed and wiring.
        experiment: that of the run.
        plan: that of the run.
        run: to be done again.
        path: of the new file.
        progress: told of (units done, units to do).

    Returns:
        The new run.

    Raises:
        InputError: the file cannot be made, or the board does not take the snapshot.
        RramError: what the experiment raises.
    """
    check_place(path)
    start, units = run.start(), run.state.units

    def tell(done: int, total: int) -> None:
        (progress or _silent)(min(done, units), units)

    def enough() -> bool:
        return writer.units >= units

    with RunWriter(path) as writer:
        snapshots = Snapshots(path)
        if start is None:
            _begun(board, experiment, plan, writer, snapshots)
        else:
            board.restore(start)
            board.array.use(Calibration.from_dict(run.header.calibration))
            header = dataclasses.replace(run.header, versions=_versions(), started=now())
            writer.begin(header, experiment.columns(plan, board.spec), start)
        parts = run.resumed_at()
        again = _Run(board, writer, snapshots, TrafficDigest(), enough, tell, parts)
        again.go(experiment, plan, 0)
    return RunFile(path)


def _digest(run: RunFile) -> TrafficDigest:
    """To go on with the traffic of a run; not known where its file does not tell of all of it."""
    if not run.state.units:
        return TrafficDigest()
    told = run.traffic()
    return TrafficDigest(told[-1] if told else None)


def _never() -> bool:
    return False


def _silent(done: int, total: int) -> None:
    """Tell nobody."""


# ---- beginning ----------------------------------------------------------------------------------


def _begun(
    board: Board, experiment: Experiment[P], plan: P, writer: RunWriter, snapshots: Snapshots
) -> State:
    header = header_of(board, experiment, plan)
    snapshots.keep_only(None)
    try:
        start = board.snapshot()
        snapshots.save(0, start)
        writer.begin(header, experiment.columns(plan, board.spec), start)
    except BaseException:
        snapshots.keep_only(None)
        raise
    return RunFile(writer.path).state


def header_of(board: Board, experiment: Experiment[P], plan: P) -> Header:
    """What is known before the first record; reads the whole array once."""
    passport = board.passport
    return Header(
        experiment=experiment.name,
        title=experiment.title,
        plan=plan_values(plan),
        units=experiment.units(plan, board.spec),
        seed=getattr(plan, "seed", None),
        board=board.name,
        info=plain(board.info()),
        spec=spec_values(board.spec),
        chip=passport.contents.chip if passport else "",
        passport=str(passport.file.path) if passport else "",
        calibration=board.array.calibration.to_dict(),
        versions=_versions(),
        started=now(),
        map_siemens=np.asarray(board.array.read(), dtype=np.float64),
    )


def _versions() -> dict[str, str]:
    return {**versions(), "h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version}


def _resumed(
    board: Board,
    experiment: Experiment[P],
    plan: P,
    writer: RunWriter,
    snapshots: Snapshots,
    force: bool,
) -> State:
    """All that can be refused comes first: a board that was put back has forgotten what it held."""
    run = RunFile(writer.path)
    check_same_run(run, board, experiment, plan)
    if run.state.status == DONE:  # the process may have been killed just before it was over
        writer.mend()
        snapshots.keep_only(None)
        return run.state
    snapshot = snapshots.load(run.state.units)
    if snapshot is None and board.snapshot() is not None:
        raise InputError(
            f"{run.path}: the board's snapshot after unit {run.state.units} is missing beside it; "
            "without it the board cannot be put back, and the run cannot go on as it began"
        )
    if not force:
        check_unused(run, board)
    if snapshot is None:
        board.check_map()
    state = writer.go_on(force)
    if snapshot is not None:
        board.restore(snapshot)
    board.array.use(Calibration.from_dict(run.header.calibration))
    return state


# ---- going --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Run:
    board: Board
    writer: RunWriter
    snapshots: Snapshots
    digest: TrafficDigest
    should_stop: Callable[[], bool]
    progress: Progress
    begun_at: Collection[int] = ()  # units with which the work is begun anew, as when resumed

    def go(self, experiment: Experiment[P], plan: P, start: int) -> None:
        """Do the units from `start` on; the file says how it ended, however it ended."""
        try:
            self.writer.note(counted(self.board, stopped=False))
            total = experiment.units(plan, self.board.spec)
            self.progress(start, total)
            finished = self._units(experiment, plan, start, total)
            self._finish(*((DONE, "") if finished else (INTERRUPTED, ASKED)))
        except BaseException as error:
            with contextlib.suppress(RecordError):  # the first error is told
                self._finish(*ending(error))
            with contextlib.suppress(RramError):
                # by the file: the writer may have been interrupted before it knew
                self.snapshots.keep_only(RunFile(self.writer.path).state.units)
            raise
        self.snapshots.keep_only(None if finished else self.writer.units)

    def _finish(self, status: str, reason: str) -> None:
        counts = ""
        with contextlib.suppress(RramError):  # a lost link is what ended the run
            counts = counted(self.board, stopped=True)
        self.writer.finish(status, reason, counts)
        passport = self.board.passport
        if passport:
            run, path = RunFile(self.writer.path), self.writer.path.resolve()
            far = f"{run.state.units} of {run.header.units} units"
            passport.note_event(f"{run.header.experiment}: {status}, {far}, {path}")

    def _units(self, experiment: Experiment[P], plan: P, start: int, total: int) -> bool:
        """False where it was asked to stop before the end."""
        work: Iterator[Batch] = iter(())
        for unit in range(start, total):
            if self.should_stop():
                return False
            if unit == start or unit in self.begun_at:
                done: Data = RunFile(self.writer.path).data()
                work = experiment.run(self.board, plan, unit, done)
            self.board.array.use(self.board.array.calibration)  # forgets earlier reads
            with self.board.overheard(self.digest.note):
                batch = next(work, None)
            if batch is None:
                raise InputError(f"the experiment ended after {unit} of {total} units")
            self.snapshots.save(unit + 1, self.board.snapshot())
            resumed = unit in self.begun_at or unit == start > 0
            self.writer.commit(batch, self.digest.end_unit(), resumed)
            self.writer.note(counted(self.board, stopped=False))
            self.snapshots.keep_only(unit + 1)
            self.progress(unit + 1, total)
        return True
