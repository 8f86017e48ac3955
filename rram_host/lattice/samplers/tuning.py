"""Settings that suit an action and a lattice, from scans at L = 4, 12, 24."""

import math

from rram_host.lattice.actions import Action
from rram_host.lattice.samplers.fourier_hmc import FourierHmcSettings
from rram_host.lattice.samplers.gaussian import gap_mass
from rram_host.lattice.samplers.hmc import HmcSettings
from rram_host.lattice.samplers.local_form import local_form
from rram_host.lattice.samplers.metropolis import MetropolisSettings
from rram_host.lattice.samplers.run import check_shape
from rram_host.lattice.samplers.wolff import WolffSettings

__all__ = ["fourier_hmc", "hmc", "metropolis", "wolff"]


def hmc(action: Action, shape: tuple[int, int]) -> HmcSettings:
    """Trajectory of 2.5 in phi^4, and steps for an acceptance of 0.8 to 0.9.

    The step is 1.4 V^(-1/8) over the fastest frequency of the Gaussian approximation, which is what
    the scans liked best. In the graphene wire, nearly a free field, it is longer, and the
    trajectory turns the slowest mode by a quarter.
    """
    check_shape(shape)
    form, mass = local_form(action), gap_mass(action, shape)
    length = 2.5 if form.quartic else 0.5 * math.pi / math.sqrt(mass)
    fastest = math.sqrt(8.0 * form.stiffness + mass)
    step = (1.4 if form.quartic else 2.2) / fastest * (shape[0] * shape[1]) ** -0.125
    steps = max(3, math.ceil(length / step))
    start = _spread(action, shape)
    return HmcSettings(step=length / steps, steps=steps, start_width=start)


def fourier_hmc(action: Action, shape: tuple[int, int]) -> FourierHmcSettings:
    """A quarter turn, with kicks for an acceptance of about 0.95; a free field needs none.

    The cosine of the graphene wire leaves the slow modes softer than the Gaussian has them, so
    that the turn is longer, by the eighth root of what the cosine adds to the mass: 1.2 times at
    m / g = 0.2, 1.4 times at 0.5. Where its wells are deep (from about m / g = 0.25) sites have to
    change them one by one, in Metropolis sweeps; where the mean of a free field would reach the
    next well (its spread a seventh of their distance: sqrt(V) g < 7) the mean has moves of its own.
    With both, tau is about 1.3 trajectories or less for all that was looked at (M, |M|, chi2, E,
    phi^2, cos; L = 5 to 48, g = 0.25 to 2, m / g up to 0.7, sqrt(V) g at least 2).
    At m2 < 0, where phi^4 is far from Gaussian, a longer turn with a heavier kernel was best, and
    no better than plain hybrid Monte Carlo: what is slow there are changes of sign.
    """
    check_shape(shape)
    form, volume, start = local_form(action), shape[0] * shape[1], _spread(action, shape)
    if not (form.quartic or form.cosine):
        return FourierHmcSettings(kicks=1, thermalisation=10, start_width=start)
    if not form.quartic:
        longer = (gap_mass(action, shape) / (2.0 * form.square)) ** 0.125
        return FourierHmcSettings(
            angle=0.5 * math.pi * longer,
            kicks=math.ceil(max(4.0, 2.0 * volume**0.125) * longer),
            mean_moves=4 if volume * form.square < 8.0 else 0,
            sweeps=max(0, math.floor(10.0 * (longer - 1.1))),
            thermalisation=50,
            start_width=start,
        )
    angle, many = (5.0, 7.0) if form.square < 0.0 else (0.5 * math.pi, 4.0)
    kicks = math.ceil(many * volume**0.25)
    return FourierHmcSettings(angle=angle, kicks=kicks, jitter=0.2, start_width=start)


def metropolis(action: Action, shape: tuple[int, int]) -> MetropolisSettings:
    """Steps of about twice the spread that a site has between its neighbours: half are taken.

    In the graphene wire at least such as reach the next well of the cosine.
    """
    check_shape(shape)
    longest = max(500, 10 * max(shape) ** 2)
    return MetropolisSettings(
        width=_width(action, shape),
        keep_every=10,
        thermalisation=longest,
        start_width=_spread(action, shape),
    )


def wolff(action: Action, shape: tuple[int, int]) -> WolffSettings:
    """Clusters for the sign, two or one for every 144 sites, and one sweep for the size.

    They do not move the mean of a graphene wire from well to well of its cosine, so that short
    ones (L g = 3: tau of chi2 about 60) take longer to thermalise.
    """
    check_shape(shape)
    return WolffSettings(
        clusters=max(2, shape[0] * shape[1] // 144),
        width=_width(action, shape),
        thermalisation=1000 if local_form(action).cosine else 200,
        start_width=_spread(action, shape),
    )


def _width(action: Action, shape: tuple[int, int]) -> float:
    """Largest step of a hit; of a wire with wells 1.4 or more, those being sqrt(pi) apart."""
    width = 2.2 * _spread(action, shape)
    return max(width, 1.4) if local_form(action).cosine else width


def _spread(action: Action, shape: tuple[int, int]) -> float:
    """Standard deviation of a site in the Gaussian approximation, its neighbours held."""
    return 1.0 / math.sqrt(4.0 * local_form(action).stiffness + gap_mass(action, shape))
