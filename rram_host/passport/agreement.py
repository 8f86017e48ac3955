"""Whether a read can be of the chip that a passport describes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.readout import PRISTINE_SIEMENS
from rram_host.passport.document import Contents

# Relaxation and drift move a cell by a few microsiemens; another chip's cells are anywhere.
MOVED_SIEMENS = 15e-6
MOVED_SHARE = 0.5
# Stuck and deeply RESET cells are few; a chip that was never formed has all of them.
OTHER_SHARE = 0.1
LEAST_CELLS = 4  # fewer say nothing


def disagreements(contents: Contents, g: npt.NDArray[np.float64]) -> list[str]:
    """In what a read is not what the passport says; empty where they agree, or nothing is known.

    Args:
        contents: of the passport.
        g: siemens, (rows, cols).
    """
    if contents.map is None:
        return []
    known = np.isfinite(contents.map.siemens)
    formed, pristine = known & contents.formed, known & ~contents.formed
    conducts = g >= PRISTINE_SIEMENS
    moved = np.abs(g - contents.map.siemens) > MOVED_SIEMENS
    found = []
    for among, differ, share, text in (
        (formed, ~conducts, OTHER_SHARE, "cells that were formed read pristine"),
        (pristine, conducts, OTHER_SHARE, "cells that were never formed conduct"),
        (formed & conducts, moved, MOVED_SHARE, "cells are more than 15 µS off the map"),
    ):
        count, base = int((among & differ).sum()), int(among.sum())
        if count >= LEAST_CELLS and count > share * base:
            found.append(f"{count} of {base} {text}")
    return found
