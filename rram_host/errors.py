"""The error tree of the host. Every error a user can meet is an `RramError`."""

from numbers import Integral

from firmware_bridge.errors import ContractError, InputError, RramError

__all__ = [
    "BoardFault",
    "ContractError",
    "InputError",
    "LinkError",
    "ReadOnlyLinkError",
    "RecordError",
    "RramError",
    "UnsafeDensityError",
    "require_whole",
]


class LinkError(RramError):
    """The board cannot be reached, or stopped answering, or answered nonsense."""


class ReadOnlyLinkError(LinkError):
    """Another host writes to the board now; reading and making it safe are open to all."""


class BoardFault(RramError):
    """The board stopped a program with a latched fault; the message names rule and place."""


class RecordError(RramError):
    """What was measured cannot be kept: the disk is full, or the file cannot be written."""


class UnsafeDensityError(RramError):
    """A sampler was given a model whose log q is not the density of what it drew."""


def require_whole(**counts: object) -> None:
    """Refuse counts and seeds, by name, that are not whole numbers (1e3 is a float).

    Raises:
        InputError: for the first that is not.
    """
    for name, value in counts.items():
        if not isinstance(value, Integral):
            raise InputError(f"{name} = {value!r} is not a whole number")
