"""Draws into one run file, batch by batch; a run that was broken off goes on with the next batch.

In software a resumed run ends with the records of an uninterrupted one, bit for bit: a batch has
random numbers of its own, and the chain goes on from the weight that it held. On an array the flow
has been programmed anew, so it is another one; its proposals begin a chain of their own, whose
first one is taken.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rram_host.errors import InputError
from rram_host.experiments.agreement import differences, spec_values
from rram_host.experiments.recording import ASKED
from rram_host.experiments.sampling.draws import Drawn
from rram_host.experiments.sampling.load import check_kind
from rram_host.experiments.sampling.plan import NAME, DrawPlan
from rram_host.experiments.sampling.units import Chained, columns
from rram_host.flows.protocol import Flow
from rram_host.lattice.actions import Action, settings_of
from rram_host.records.columns import Batch
from rram_host.records.layout import Header
from rram_host.records.place import check_place
from rram_host.records.run_file import RunFile
from rram_host.records.run_folder import plain, versions
from rram_host.records.run_writer import RunWriter, now
from rram_host.records.status import DONE, INTERRUPTED
from rram_host.session import Board

SOFTWARE = "software"
Progress = Callable[[int, int], None]
Source = Callable[[int], Generator[Drawn]]


@dataclass(frozen=True)
class Origin:
    """What the draws come from, for the head of a run file.

    Attributes:
        model: its name or file.
        weights_sha256: `fingerprint` of the flow as it was loaded.
        boards: that its products run on; none in software.
        deploy: how it was put onto them.
    """

    model: str
    weights_sha256: str
    boards: tuple[Board, ...] = ()
    deploy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """URLs of the boards, or "software"."""
        return ", ".join(board.name for board in self.boards) or SOFTWARE

    def clock_s(self) -> float:
        """Clock of the first board; NaN without one."""
        return self.boards[0].clock_s if self.boards else math.nan


def fingerprint(flow: Flow) -> str:
    """SHA-256 over names, types and values of a flow's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(flow.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Recording:
    """A run file being made.

    Attributes:
        path: of the file.
        action, shape, plan: what is drawn.
        origin: from what.
        resume: go on with the file. Otherwise it must not exist.
        force: go on although its process was on another machine and cannot be asked.
    """

    path: Path
    action: Action
    shape: tuple[int, int]
    plan: DrawPlan
    origin: Origin
    resume: bool = False
    force: bool = False

    def run(
        self, source: Source, chained: Chained, progress: Progress, should_stop: Callable[[], bool]
    ) -> int:
        """Draw and commit what is missing.

        Args:
            source: draws the batches from a given one on.
            chained: turns them into records.
            progress: told of (configurations done, asked for).
            should_stop: asked after every batch; True ends the run well, as interrupted.

        Returns:
            Configurations drawn.

        Raises:
            InputError: the file cannot be made, or is of another run.
            RecordError: the disk filled up; what was committed stays.
        """
        if not self.resume:
            check_place(self.path)
        with RunWriter(self.path) as writer:
            if self.resume and self._gone_on(writer, chained):
                return 0
            if not self.resume:
                boards, header = self.origin.boards, self._header()
                start = boards[0].snapshot() if len(boards) == 1 else None
                writer.begin(header, columns(self.shape), start)
            first, told = writer.units, Told(self.plan, progress)
            told(first)
            with closing(source(first)) as batches:
                for unit in chained.units(batches, first):
                    self._commit(writer, unit, chained, first)
                    told(writer.units)
                    if should_stop() and writer.units < self.plan.batches:
                        writer.finish(INTERRUPTED, ASKED)
                        break
                else:
                    writer.finish(DONE)
            return told.rows(writer.units) - told.rows(first)

    def _commit(self, writer: RunWriter, unit: Batch, chained: Chained, first: int) -> None:
        with chained.seconds.timing("record"):
            writer.commit(unit, resumed=writer.units == first > 0)

    def _gone_on(self, writer: RunWriter, chained: Chained) -> bool:
        """Open the file to go on; True where nothing is left to do."""
        run = RunFile(self.path)
        self._check(run)
        if run.state.status == DONE:
            writer.mend()
            return True
        state = writer.go_on(self.force)
        if state.units and not self.origin.boards:
            chained.held = _held(run)
        if state.units == self.plan.batches:  # killed just before it was over
            writer.finish(DONE)
            return True
        return False

    def _check(self, run: RunFile) -> None:
        """Refuse to go on with a run of something else."""
        check_kind(run)
        there = {k: v for k, v in run.header.plan.items() if k != "model"}
        here = {k: v for k, v in self._settings().items() if k != "model"}
        found = differences(there, here, "plan")
        found += differences({"from": run.header.board}, {"from": self.origin.name}, "drawn")
        if found:
            raise InputError(f"{self.path} cannot go on: {'; '.join(found)}")

    def _settings(self) -> dict[str, Any]:
        return {
            "model": self.origin.model,
            "weights_sha256": self.origin.weights_sha256,
            "action": settings_of(self.action),
            "shape": list(self.shape),
            **asdict(self.plan),
            "deploy": plain(self.origin.deploy),
        }

    def _header(self) -> Header:
        boards = self.origin.boards
        passports = [board.passport for board in boards if board.passport]
        maps = [np.asarray(board.array.read(), dtype=np.float64) for board in boards]
        return Header(
            experiment=NAME,
            title="Lattice configurations of a flow",
            plan=self._settings(),
            units=self.plan.batches,
            seed=self.plan.seed,
            board=self.origin.name,
            info={board.name: plain(board.info()) for board in boards},
            spec=spec_values(boards[0].spec) if boards else {},
            chip=", ".join(passport.contents.chip for passport in passports),
            passport=", ".join(str(passport.file.path) for passport in passports),
            calibration=boards[0].array.calibration.to_dict() if boards else {},
            versions={**versions(), "h5py": h5py.__version__},
            started=now(),
            map_siemens=np.concatenate(maps) if maps else np.empty((0, 0)),
        )


@dataclass(frozen=True)
class Told:
    """Progress in configurations."""

    plan: DrawPlan
    progress: Progress

    def rows(self, units: int) -> int:
        """Configurations of so many batches."""
        return min(units * self.plan.batch, self.plan.n)

    def __call__(self, units: int) -> None:
        """Tell of so many batches."""
        self.progress(self.rows(units), self.plan.n)


def _held(run: RunFile) -> float:
    """Log w of what a run's chain holds."""
    last = int(np.flatnonzero(run.column("accepted"))[-1])
    log_p, log_q = (run.column(name, last, last + 1)[0] for name in ("log_p", "log_q"))
    return float(log_p - log_q)
