"""How a run stands, and what an exception that ends it makes of it."""

from __future__ import annotations

import signal

RUNNING, DONE, INTERRUPTED, FAILED = "running", "done", "interrupted", "failed"
KILLED = "killed"  # reason of an interrupted run whose process is gone

_OF_SIGNALS = 128  # a shell's exit status of a program that signal n ended is 128 + n


def unwrapped(error: BaseException | None) -> BaseException | None:
    """What a signal raised inside compiled code, which numba hands on within a SystemError."""
    cause = error.__cause__ if isinstance(error, SystemError) else None
    return cause if isinstance(cause, (KeyboardInterrupt, SystemExit)) else error


def ending(error: BaseException | None) -> tuple[str, str]:
    """Status of a run that is over, and the reason.

    Args:
        error: what ended it; None where it came to its end.

    >>> ending(SystemExit(143))
    ('interrupted', 'SIGTERM')
    """
    error = unwrapped(error)
    if error is None:
        return DONE, ""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "Ctrl-C"
    number = _signal_of(error)
    if number is not None:
        return INTERRUPTED, number.name
    return FAILED, f"{type(error).__name__}: {error}"


def _signal_of(error: BaseException) -> signal.Signals | None:
    code = error.code if isinstance(error, SystemExit) else None
    try:
        return signal.Signals(code - _OF_SIGNALS) if isinstance(code, int) else None
    except ValueError:
        return None
