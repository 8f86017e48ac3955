"""Pictures to program: an image file or a text, as numbers from 0 (dark) to 1 (bright)."""

from __future__ import annotations

import io
import string
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from rram_host.errors import InputError

if TYPE_CHECKING:
    from matplotlib.path import Path as Outline

Array = npt.NDArray[np.float64]

_FINE = 16  # points of the drawing along a cell
_GAP = 0.04  # of a letter's box, on every side
_MOST_STRETCH = 1.5  # an "I" is not to be a block
_MAX_LETTERS = 16
_LETTERS = frozenset(string.ascii_letters + string.digits + string.punctuation + " ")


def image(path: str | Path, shape: tuple[int, int]) -> Array:
    """An image as grey values, stretched to (rows, cols): each cell the mean of its pixels.

    Raises:
        InputError: no such file, or none that is an image.
    """
    try:
        with Image.open(path) as picture:
            grey = picture.convert("RGBA")
            white = Image.new("RGBA", grey.size, "white")
            flat = Image.alpha_composite(white, grey).convert("F")
    except FileNotFoundError:
        raise InputError(f"image: no file {path}") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"image: {path} cannot be read as one ({error})") from None
    small = flat.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64) / 255.0


def check_text(text: str) -> None:
    """Refuse what cannot be drawn.

    Raises:
        InputError: no letters, more than 16, or others than those of ASCII.
    """
    if not text.strip() or len(text) > _MAX_LETTERS or not set(text) <= _LETTERS:
        raise InputError(
            f"text {text!r}: need 1..{_MAX_LETTERS} ASCII letters, digits or signs, one not blank"
        )


def drawn_text(text: str, shape: tuple[int, int]) -> Array:
    """A text in bold letters, each stretched to its box, in as many lines as make boxes square.

    "AI4S" on 32 x 32 cells is two lines of two letters of 16 x 16.

    Args:
        text: 1 to 16 letters.
        shape: (rows, cols).

    Returns:
        Share of every cell that ink covers, (rows, cols).
    """
    # here, because every command imports this module, and most draw nothing
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch

    check_text(text)
    rows, cols = shape
    lines = max(1, round(np.sqrt(len(text) * rows / cols)))
    per_line = -(-len(text) // lines)
    dots = 72.0
    figure = Figure(figsize=(cols * _FINE / dots, rows * _FINE / dots), dpi=dots)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, per_line), ylim=(lines, 0))
    axes.axis("off")
    for k, letter in enumerate(text):
        path = _glyph(letter, k % per_line, k // per_line)
        if path is not None:
            axes.add_patch(PathPatch(path, facecolor="black", linewidth=0))
    stream = io.BytesIO()
    figure.savefig(stream, format="rgba", dpi=dots)
    grey = np.frombuffer(stream.getvalue(), dtype=np.uint8)[::4] / 255.0
    cells: Array = 1.0 - grey.reshape(rows, _FINE, cols, _FINE).mean((1, 3))
    return cells


def _glyph(letter: str, col: int, row: int) -> Outline | None:
    """Outline of a letter in the box at (col, row), y downwards; None for a blank.

    As high as the box and, where it is not made wider than half as much again, as wide.
    """
    from matplotlib.path import Path as Outline

    path = _outline(letter)
    points = np.asarray(path.vertices, dtype=np.float64)
    if not points.size:
        return None
    (left, low), (right, high) = path.get_extents().get_points()
    low, high = min(low, 0.0), max(high, float(_outline("X").get_extents().y1))
    room = 1 - 2 * _GAP
    up = room / (high - low)
    along = min(room / (right - left), _MOST_STRETCH * up)
    x = col + 0.5 + along * (points[:, 0] - (left + right) / 2)
    y = row + 1 - _GAP - up * (points[:, 1] - low)
    return Outline(np.column_stack([x, y]), path.codes)


def _outline(letter: str) -> Outline:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), letter, size=10, prop=FontProperties(weight="bold"))
