"""Loops compiled by numba where it is installed; plain Python otherwise.

Only modules named `kernels_*` import this, and they are imported when a sampler runs: what merely
looks at settings does not wait for numba.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

__all__ = ["has_numba", "jit"]

_F = TypeVar("_F", bound=Callable[..., Any])


@cache
def has_numba() -> bool:
    """Whether loops are compiled here: numba is installed, and not told to do nothing."""
    try:
        from numba import config
    except ImportError:
        return False
    return not bool(cast(Any, config).DISABLE_JIT)


def jit(function: _F) -> _F:
    """The function as machine code, kept on disk; the function itself without numba.

    Products and sums may be contracted (one rounding instead of two); nothing else is reordered.
    """
    if not has_numba():
        return function
    import numba

    njit: Any = numba.njit
    made = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})(function)
    return cast(_F, made)
