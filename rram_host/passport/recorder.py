"""Between an array and its chip's passport: what is done is noted, some things are held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from rram_host.array.log import Array, Counts, Mask
from rram_host.array.reports import FormReport, ProgramReport
from rram_host.errors import InputError
from rram_host.passport.parts import Cell
from rram_host.passport.passport import Passport


class Recorder:
    """An `ArrayLog` that keeps a passport: saved after every call that gave pulses or read all.

    Pulses are counted before they go out, in memory; so what breaks a call off loses none of them
    as long as the board is closed. Loops of cycles and sweeps are on the disk before they begin; of
    any other call, a process that is killed loses the pulses.

    Args:
        passport: of the chip on the board.
    """

    def __init__(self, passport: Passport) -> None:
        self.passport = passport
        self.left_out: dict[Cell, str] = {}

    def allowed(self, targets_siemens: Array) -> Array:
        """Targets without those of dead and worn cells; `left_out` then says which, and why.

        Raises:
            InputError: a target is outside the window that the passport sets.
        """
        self.passport.check_targets(targets_siemens)
        barred = self.passport.barred()
        self.left_out = {c: why for c, why in barred.items() if not np.isnan(targets_siemens[c])}
        if self.left_out:
            self.passport.note_event(f"left {len(self.left_out)} cells out of programming")
        targets = targets_siemens.copy()
        for cell in self.left_out:
            targets[cell] = np.nan
        return targets

    def dead(self) -> Mask:
        """Cells that the passport calls dead."""
        return self.passport.dead

    def formable(self) -> Mask:
        """Cells that the passport calls neither formed nor dead, but for not having formed."""
        return ~(self.passport.contents.formed | self.passport.given_up)

    def worn(self) -> Mask:
        """Cells that have had all the pulses that the passport's limit allows."""
        return self.passport.worn

    @contextmanager
    def pulsing(
        self, cells: Mask | Counts, forming: bool = False, many: bool = False
    ) -> Iterator[None]:
        """Count pulses on `cells`, one each or so many, unless their program is refused.

        A fault or a lost link may come before the pulses or after them: they count, so that a cell
        has never had more than its passport says.

        Args:
            cells: which, or how many pulses each.
            forming: they are forming pulses.
            many: save before they are given.

        Raises:
            InputError: a cell has had all its pulses, or would get more.
        """
        limits, had = self.passport.contents.limits, self.passport.contents.pulses
        most = np.inf if limits.max_pulses_per_cell is None else limits.max_pulses_per_cell
        over = (cells > 0) & (had + cells > most)
        if over.any() and not forming:
            row, col = np.argwhere(over)[0].tolist()
            raise InputError(
                f"cell ({row}, {col}) has had {int(had[row, col])} SET and RESET pulses, and is to "
                f"get {int(cells[row, col])}; passport {self.passport.file.path} allows "
                f"{limits.max_pulses_per_cell}"
            )
        before = self.passport.contents
        self.passport.note_pulses(cells, forming)
        try:
            if many:
                self.passport.save()
            yield
        except InputError:
            self.passport.take_back(before)  # refused before it was started
            raise

    def pulsed(self, measured_siemens: Array) -> None:
        """Save."""
        self.read(measured_siemens)

    def formed(self, report: FormReport) -> None:
        """Note cells that did not form or are shorted as dead, and save."""
        self.passport.note_form(report)
        self.passport.save()

    def programmed(self, report: ProgramReport) -> None:
        """Note what the cells read now, and save."""
        self.passport.note_program(report)
        self.passport.save()

    def read(self, measured_siemens: Array) -> None:
        """Note what the cells read now, and save."""
        self.passport.note_read(measured_siemens)
        self.passport.save()

    def given_up(self, reasons: Mapping[Cell, str]) -> None:
        """Note cells as dead, and save."""
        for (row, col), reason in reasons.items():
            self.passport.note_dead(row, col, reason)
        self.passport.save()
