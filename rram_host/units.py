"""Units for people: SI inside, microsiemens and engineering prefixes only where a person reads."""

MICRO = 1e-6


def microsiemens(conductance_siemens: float) -> str:
    """Conductance as text in microsiemens.

    >>> microsiemens(50e-6)
    '50.00 µS'
    """
    return f"{conductance_siemens / MICRO:.2f} µS"


def seconds(duration_s: float) -> str:
    """A duration as text with a readable unit.

    >>> seconds(0.0125)
    '12.5 ms'
    """
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if duration_s >= scale:
            return f"{duration_s / scale:.3g} {unit}"
    return f"{duration_s / 1e-9:.3g} ns"
