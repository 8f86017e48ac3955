"""The root of the error tree, shared by the host, the bridge and the emulated board."""


class RramError(Exception):
    """Anything this project refuses or fails to do. The message is meant to be read."""


class InputError(RramError, ValueError):
    """What was asked for cannot be done: the message says what, of what, the limit and the unit."""


class ContractError(RramError):
    """The two sides of the register window do not speak the same contract."""


class ReadOnlyError(RramError):
    """Another client of the bridge writes, or has written since; the message names it."""


class ClosingError(RramError):
    """The bridge is being shut down, or the link of this client has ended."""
