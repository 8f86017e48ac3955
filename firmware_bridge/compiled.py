"""Loops over many numbers: compiled by numba where it is installed.

It is not on the ZC706's own ARM. Who asks has a second way for that, which gives the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """A plain function as machine code, kept on disk; None without numba.

    It is compiled when it is first called, and numba is imported no earlier than this is asked for.
    """
    try:
        from numba import njit
    except ImportError:
        return None
    made: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")(function)
    return made
