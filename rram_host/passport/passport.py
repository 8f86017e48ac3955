"""Passport: the one mutable thing of the room. It takes notes and puts them on the disk."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.readout import PRISTINE_SIEMENS
from rram_host.array.reports import FormReport, ProgramReport
from rram_host.errors import InputError
from rram_host.passport.agreement import disagreements
from rram_host.passport.document import (
    HISTORY,
    CalibrationEntry,
    Contents,
    grid_like,
    utc_now,
)
from rram_host.passport.fields import Counts, Mask, plain_json
from rram_host.passport.parts import Cell, ConductanceMap, DeadCell, Event, Forming, Limits
from rram_host.passport.store import PassportFile, layout, parse
from rram_host.units import microsiemens

_NOT_FORMED = "not formed"


class Passport:
    """What is known of one chip. Notes are kept in memory until `save`.

    Args:
        file: where it is kept.
        contents: what it says so far.
        clock: tells the time of notes.
    """

    def __init__(
        self, file: PassportFile, contents: Contents, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.file, self._contents, self._clock = file, contents, clock
        self._board = "no board"
        self._unsaved = False

    # ---- files ------------------------------------------------------------------------------

    @staticmethod
    def new(
        path: str | Path,
        spec: BoardSpec,
        chip: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> Passport:
        """A passport for a chip that has none; on the disk once it is saved.

        Args:
            path: where.
            spec: the board that the chip sits on.
            chip: its name; default the stem of the file.
            clock: tells the time of notes.

        Raises:
            InputError: there is a file already.
        """
        file = PassportFile(Path(path))
        if file.read() is not None:
            raise InputError(f"passport {file.path} is there already")
        made = Passport(file, Contents.blank(spec, chip or Path(path).stem, clock()), clock)
        made._unsaved = True
        return made

    @staticmethod
    def load(path: str | Path, clock: Callable[[], datetime] = utc_now) -> Passport:
        """Read a passport.

        Raises:
            InputError: no such file, or no passport.
        """
        file = PassportFile(Path(path))
        text = file.read()
        if text is None:
            raise InputError(f"there is no passport {file.path}")
        where = f"passport {file.path}"
        return Passport(file, Contents.from_json(parse(text, where), where), clock)

    @staticmethod
    def of(path: str | Path, spec: BoardSpec) -> Passport:
        """The passport in a file, or a new one where there is no file."""
        exists = PassportFile(Path(path)).read() is not None
        return Passport.load(path) if exists else Passport.new(path, spec)

    def save(self) -> None:
        """Put what was noted on the disk, whole or not at all; nothing where nothing was noted.

        Raises:
            InputError: it cannot be written, or someone else has changed the file.
        """
        if self._unsaved:
            contents = self._contents.changed(updated=self._clock())
            self.file.write(layout(contents.to_json()))
            self._contents, self._unsaved = contents, False

    def claim(self) -> None:
        """Be the only one who writes the file, until `release`; see `PassportFile.claim`."""
        self.file.claim()

    def release(self) -> None:
        """Let others have the file."""
        self.file.release()

    # ---- what it says -----------------------------------------------------------------------

    @property
    def contents(self) -> Contents:
        """What it says now; later notes do not change it."""
        return self._contents

    @property
    def calibration(self) -> dict[str, Any] | None:
        """The last calibration, as `Calibration.from_dict` takes it; None before the first."""
        entry = self._contents.calibration
        return None if entry is None else entry.values

    @property
    def calibration_age(self) -> timedelta | None:
        """Time since the last calibration; None before the first."""
        entry = self._contents.calibration
        return None if entry is None else self._clock() - entry.when

    @property
    def dead(self) -> Mask:
        """Cells that are not to be programmed, (rows, cols)."""
        mask = np.zeros(self._contents.shape, dtype=bool)
        for cell in self._contents.dead:
            mask[cell.row, cell.col] = True
        return mask

    @property
    def worn(self) -> Mask:
        """Cells that have had all the SET and RESET pulses that the chip's limit allows."""
        most = self._contents.limits.max_pulses_per_cell
        if most is None:
            return np.zeros(self._contents.shape, dtype=bool)
        return self._contents.pulses >= most

    @property
    def given_up(self) -> Mask:
        """Cells that are dead for another reason than that they did not form, (rows, cols)."""
        mask = self.dead
        for cell in self._contents.dead:
            mask[cell.row, cell.col] = not cell.reason.startswith(_NOT_FORMED)
        return mask

    def barred(self) -> dict[Cell, str]:
        """Cells that are not to be programmed, dead or worn, and why."""
        reasons = {
            cell: f"worn: had {self._contents.pulses[cell]} pulses" for cell in _cells(self.worn)
        }
        return reasons | {(cell.row, cell.col): cell.reason for cell in self._contents.dead}

    def check_fits(self, spec: BoardSpec) -> None:
        """Refuse a board file of another geometry.

        Raises:
            InputError: it has.
        """
        rows, cols = self._contents.shape
        if (rows, cols) != (spec.rows, spec.cols):
            raise InputError(
                f"passport {self.file.path} is of a chip of {rows} x {cols} cells; board file "
                f"{spec.name} has {spec.rows} x {spec.cols}"
            )

    def check_against(self, g: npt.ArrayLike) -> None:
        """Refuse a chip that cannot be this one, by a read of it.

        Args:
            g: conductances as read, siemens, (rows, cols).

        Raises:
            InputError: the read disagrees grossly with the map; says in what.
        """
        measured = grid_like(g, self._contents.shape, "conductances")
        found = disagreements(self._contents, measured)
        if found:
            raise InputError(
                f"passport {self.file.path} of chip {self._contents.chip!r} is not of this chip, "
                f"or the chip was used without it: {'; '.join(found)} (if it is this chip all the "
                'same, take the map out of the file: "map": null)'
            )

    def check_targets(self, targets_siemens: npt.NDArray[np.float64]) -> None:
        """Refuse targets outside the window of this chip; NaN is none.

        Raises:
            InputError: names the first of them, and the window.
        """
        low, high = self._contents.limits.window
        outside = (targets_siemens < low) | (targets_siemens > high)
        if outside.any():
            row, col = np.argwhere(outside)[0].tolist()
            bounds = [f"at least {microsiemens(low)}"] if low > 0 else []
            bounds += [f"at most {microsiemens(high)}"] if np.isfinite(high) else []
            raise InputError(
                f"target {microsiemens(float(targets_siemens[row, col]))} at ({row}, {col}) is "
                f"outside the window of chip {self._contents.chip!r} in passport "
                f"{self.file.path}: {', '.join(bounds)} ({int(outside.sum())} such targets)"
            )

    # ---- notes ------------------------------------------------------------------------------

    def _note(self, **entries: Any) -> None:
        self._contents, self._unsaved = self._contents.changed(**entries), True

    def note_event(self, what: str) -> None:
        """A line for the log."""
        event = Event(self._clock(), what, self._board, _version())
        self._note(events=(*self._contents.events, event)[-HISTORY:])

    def note_opened(self, board: str, spec: BoardSpec) -> None:
        """The chip sits on a board, which later notes name."""
        self._board = board
        self._note(board_file=spec.name)
        self.note_event(f"opened with board file {spec.name}")

    def note_pulses(self, cells: Mask | Counts, forming: bool = False) -> None:
        """Pulses on `cells`, one each or so many: what they hold is unknown until the next read."""
        key = "form_pulses" if forming else "pulses"
        self._note(**{key: getattr(self._contents, key) + cells})
        known = self._contents.map
        if known is not None:
            siemens = np.where(cells, np.nan, known.siemens)
            self._note(map=dataclasses.replace(known, siemens=siemens))

    def take_back(self, contents: Contents) -> None:
        """Say again what was said before pulses that were noted, and then not given."""
        self._contents, self._unsaved = contents, True

    def put_back(self, formed: Mask) -> None:
        """The chip, an emulated one, is again as it was when `formed` cells were formed."""
        known, since = self._contents.map, self._contents.formed & ~formed
        if known is not None:
            siemens = np.where(since, np.nan, known.siemens)
            self._note(map=dataclasses.replace(known, siemens=siemens))
        self._note(formed=formed.copy())

    def note_read(self, g: npt.ArrayLike) -> None:
        """Conductances of all cells, siemens, (rows, cols); NaN leaves what is known of a cell."""
        measured = grid_like(g, self._contents.shape, "conductances")
        known = self._contents.map
        if known is not None:
            measured = np.where(np.isnan(measured), known.siemens, measured)
        # A filament that formed stays: a cell that reads like a pristine one was RESET too far.
        formed = self._contents.formed | (measured >= PRISTINE_SIEMENS)
        self._note(map=ConductanceMap(self._clock(), measured), formed=formed)

    def note_form(self, report: FormReport) -> None:
        """What came of forming; its pulses are noted by `note_pulses`."""
        self.note_read(report.measured_siemens)
        self._note(dead=tuple(cell for cell in self._contents.dead if not self._has_formed(cell)))
        unformed = _cells(report.unformed)
        self._add_dead({cell: f"{_NOT_FORMED} at {report.stop_v:.4g} V" for cell in unformed})
        reads = {cell: float(report.measured_siemens[cell]) for cell in _cells(report.shorted)}
        self._add_dead({cell: f"shorted: reads {microsiemens(g)}" for cell, g in reads.items()})
        given = int(report.pulses.sum())
        if not given:
            return  # all were formed already
        count = int(((report.pulses > 0) & ~report.unformed).sum())
        entry = Forming(self._clock(), count, given, tuple(unformed))
        self._note(forming=(*self._contents.forming, entry)[-HISTORY:])
        self.note_event(
            f"formed {count} cells with {given} pulses, {len(unformed)} unformed, {len(reads)} "
            "shorted"
        )

    def _has_formed(self, cell: DeadCell) -> bool:
        """Whether a cell that would not form has formed after all."""
        return cell.reason.startswith(_NOT_FORMED) and bool(
            self._contents.formed[cell.row, cell.col]
        )

    def note_program(self, report: ProgramReport) -> None:
        """What came of write-verify; its pulses are noted by `note_pulses`."""
        self.note_read(report.measured_siemens)
        asked = int(report.asked.sum())
        self.note_event(
            f"programmed {asked} cells with {int(report.pulses.sum())} pulses, "
            f"{len(report.failed)} not converged"
        )

    def note_calibration(self, values: Mapping[str, Any]) -> None:
        """A calibration, as `Calibration.to_dict` gives it.

        Raises:
            InputError: it holds what JSON cannot.
        """
        plain: dict[str, Any] = plain_json(dict(values), "calibration")
        self._note(calibration=CalibrationEntry(self._clock(), plain))
        self.note_event("calibrated")

    def note_dead(self, row: int, col: int, reason: str) -> None:
        """A cell that is not to be programmed; the first reason stays.

        Raises:
            InputError: no such cell, or no reason.
        """
        rows, cols = self._contents.shape
        if not (0 <= row < rows and 0 <= col < cols) or not reason.strip():
            raise InputError(
                f"dead cell ({row}, {col}), reason {reason!r}: expected a cell of {rows} x {cols} "
                "and a reason"
            )
        if self._add_dead({(int(row), int(col)): reason}):
            self.note_event(f"dead: row {row}, column {col}: {reason}")

    def _add_dead(self, reasons: Mapping[Cell, str]) -> bool:
        """Whether any of the cells was not dead already."""
        now, known = self._clock(), self.dead
        new = [DeadCell(*cell, why, now) for cell, why in reasons.items() if not known[cell]]
        if new:
            self._note(dead=(*self._contents.dead, *new))
        return bool(new)

    def note_limits(self, limits: Limits) -> None:
        """What this chip must not be asked for."""
        self._note(limits=limits)
        self.note_event(f"limits set: {limits}")


def _cells(mask: Mask) -> list[Cell]:
    return [(row, col) for row, col in np.argwhere(mask).tolist()]


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("rram-bench")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
