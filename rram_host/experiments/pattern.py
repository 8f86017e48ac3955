"""A picture in the array: how exactly does it hold a pattern? (Fig. 2h of arXiv 2509.12812)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.policies import policy_named
from rram_host.errors import InputError
from rram_host.experiments import estimates, pictures, programmed
from rram_host.experiments.experiment import Experiment, Finding, setting
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

PAPER_WITHIN_SIEMENS = 3.5e-6
_CLOSER_SIEMENS = 1.5e-6
_MAX_LEVELS = 256


@dataclass(frozen=True)
class PatternPlan:
    """What to draw; the fields' help texts say the rest."""

    image: str = setting("", "image file, stretched to the array; none: the text")
    text: str = setting("AI4S", "letters to draw")
    low_siemens: float = setting(20e-6, "conductance of the dark cells")
    high_siemens: float = setting(80e-6, "conductance of the bright cells")
    levels: int = setting(2, "conductances from low to high that are used; 2 is black and white")
    invert: bool = setting(False, "bright becomes dark")
    policy: str = setting("coarse-fine", programmed.POLICY_HELP)
    read_average: int = setting(4, "reads averaged of every cell after programming")

    def __post_init__(self) -> None:
        """Refuse pictures and conductances that are none."""
        programmed.check_average(self.read_average)
        policy_named(self.policy)
        if not 0 < self.low_siemens < self.high_siemens:
            raise InputError(
                f"low {self.low_siemens / MICRO:.4g} µS and high {self.high_siemens / MICRO:.4g} "
                "µS: need 0 < low < high"
            )
        if not 2 <= self.levels <= _MAX_LEVELS:
            raise InputError(f"levels = {self.levels} is outside 2..{_MAX_LEVELS}")
        if not self.image:
            pictures.check_text(self.text)

    def targets(self, shape: tuple[int, int]) -> Array:
        """Target conductances, siemens, (rows, cols).

        Raises:
            InputError: the image cannot be read.
        """
        if self.image:
            bright = pictures.image(self.image, shape)
        else:
            bright = pictures.drawn_text(self.text, shape)
        bright = 1.0 - bright if self.invert else bright
        grey = np.round(bright * (self.levels - 1)) / (self.levels - 1)
        return np.asarray(self.low_siemens + (self.high_siemens - self.low_siemens) * grey)


def columns(plan: PatternPlan, spec: BoardSpec) -> tuple[Column, ...]:
    """Maps of one programming.

    Raises:
        InputError: the image cannot be read, or a conductance is outside the chip's window.
    """
    programmed.check_window(spec, plan.low_siemens, plan.high_siemens)
    plan.targets((spec.rows, spec.cols))
    return programmed.map_columns(spec)


def units(plan: PatternPlan, spec: BoardSpec) -> int:
    """One: the picture."""
    return 1


def run(board: Board, plan: PatternPlan, start: int, done: Data) -> Iterator[Batch]:
    """Program the picture."""
    policy = policy_named(plan.policy)
    for _ in range(start, 1):
        targets = plan.targets(board.array.shape)
        yield programmed.program_map(board, targets, policy, plan.read_average)


def findings(plan: PatternPlan, data: Data) -> list[Finding]:
    """Shares of cells near their target, and how errors are distributed."""
    if programmed.is_empty(data):
        return programmed.left_out(data)
    error = programmed.errors_siemens(data)
    value, uncertain = estimates.std(error / MICRO)
    offset, of_offset = estimates.mean(error / MICRO)
    return [
        _within(error, PAPER_WITHIN_SIEMENS, "over 95"),
        _within(error, _CLOSER_SIEMENS),
        Finding("std of reading minus target", value, "µS", uncertain),
        Finding("mean of reading minus target", offset, "µS", of_offset),
        Finding("largest error", float(np.abs(error).max()) / MICRO, "µS"),
        *programmed.effort(data),
    ]


def _within(error: Array, bound_siemens: float, paper: str = "") -> Finding:
    hits = int((np.abs(error) <= bound_siemens).sum())
    value, uncertain = estimates.share(hits, error.size)
    name = f"cells within ±{bound_siemens / MICRO:.4g} µS"
    return Finding(name, 100 * value, "%", 100 * uncertain, paper)


def draw(figure: Figure, plan: PatternPlan, data: Data) -> None:
    """The programmed map, the map of errors, and their distribution."""
    axes = figure.subplot_mosaic("AB;CC", height_ratios=(2, 1))
    if not programmed.is_empty(data, "measured_siemens"):
        target, g = data["target_siemens"][0] / MICRO, data["measured_siemens"][0] / MICRO
        error = np.where(data["working"][0], g - target, np.nan)
        window: dict[str, Any] = {
            "vmin": plan.low_siemens / MICRO - 5,
            "vmax": plan.high_siemens / MICRO + 5,
        }
        left = axes["A"].imshow(g, cmap="viridis", interpolation="nearest", **window)
        right = axes["B"].imshow(error, cmap="RdBu", interpolation="nearest", vmin=-4, vmax=4)
        figure.colorbar(left, ax=axes["A"], shrink=0.8, label="G (µS)")
        figure.colorbar(right, ax=axes["B"], shrink=0.8, label="G - target (µS)", extend="both")
        axes["C"].hist(estimates.finite(error), bins=60, color="tab:blue")
    for sign in (-1, 1):
        axes["C"].axvline(sign * PAPER_WITHIN_SIEMENS / MICRO, color="tab:red", linewidth=1)
    axes["A"].set(title="programmed", xlabel="column (BL)", ylabel="row (WL, SL)")
    axes["B"].set(title="error", xlabel="column (BL)")
    axes["C"].set(xlabel="reading - target (µS); red: paper, over 95 % inside", ylabel="cells")


EXPERIMENT = Experiment(
    name="pattern",
    title="pattern in the array",
    help="""Program a picture into the array: an image file, or a text ("AI4S").

    Bright cells get the high conductance, dark ones the low one; --levels 64 keeps greys. What was
    stored is lost.

    Calibrate first (rram calibrate, with a passport): without, readings and what is programmed by
    them are off by some per cent at high conductances, and no finding shows it.

    \b
    rram pattern --board 'sim://?preset=taox_180nm&seed=7'
    rram pattern --image photo.png --levels 32 --low 20 --high 100
    """,
    plan=PatternPlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
