"""Relaxation out of retention runs: what readings of a cell differ by, from one time to the next.

The law is that of `relaxation`. The likelihood of all increments is maximised, and errors are those
of independent cells, whatever their law (sandwich). The reading right after programming is left
out, because each cell's last pulse was a different time before it.

The law has its heavy tails from cells that differ. Where they are of jumps instead, which `tails`
tells, a spread that was fitted to them means nothing and is left out.

Times count from the end of programming, while a cell's last pulse was somewhat earlier: the onset
takes that up, and is told only where it is far longer than programming can have taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from rram_host.errors import InputError
from rram_host.experiments.fitting.estimate import Estimate, Residual
from rram_host.experiments.fitting.relaxation import Law, Likelihood
from rram_host.experiments.fitting.tails import sigmas_of_kurtosis
from rram_host.records.columns import Data
from rram_host.units import MICRO

Array = npt.NDArray[np.float64]

_LEAST_CELLS, _LEAST_TIMES = 8, 4
_CELLS_FOR_SPREAD = 20
_JUMPS_SIGMAS = 4.0  # of the kurtosis over time, from which on tails are of jumps
_FAR = 10.0  # onset over the longest that programming can have taken
_CLEAR = 5.0  # log-likelihood by which an onset must beat none
_KNOWN = 0.6  # error of the logarithm of an onset that is told
_FAR_OFF = 25.0  # a step that is that many times larger than expected, squared, counts as this
_SEEN = 0.25  # least curvature of the log-likelihood: an error of two of a parameter's scale
_STEP = 1e-3
_NAMES = tuple(Law.__dataclass_fields__)


@dataclass(frozen=True)
class RetentionFit:
    """What readings over time say.

    Attributes:
        estimates, residuals: the outcome.
        time_s: since programming, (n,).
        mean, std: of G(t) - G(first) over cells, (n,), siemens; of the data.
        law_mean, law_std: of the fit.
        relaxed_std: of the fit, without the noise of readings.
        cells: how many.
        jumps: tails are of jumps, so that no spread of amplitudes is told.
    """

    estimates: list[Estimate]
    residuals: list[Residual]
    time_s: Array
    mean: Array
    std: Array
    law_mean: Array
    law_std: Array
    relaxed_std: Array
    cells: int
    jumps: bool


def fit_retention(data: Data, run: str) -> RetentionFit:
    """Fit records of `rram retention`.

    Raises:
        InputError: fewer than 8 cells, or than 4 times after programming.
    """
    time_s = np.asarray(data["time_s"], dtype=np.float64)[1:]  # the first is right after the pulses
    g = np.asarray(data["conductance_siemens"], dtype=np.float64)[1:] / MICRO
    g = g[:, np.isfinite(g).all(0)]
    if time_s.size < _LEAST_TIMES or g.shape[1] < _LEAST_CELLS:
        raise InputError(
            f"{run}: {g.shape[1]} cells at {time_s.size} times after programming; a fit needs at "
            f"least {_LEAST_CELLS} cells and {_LEAST_TIMES} times"
        )
    likelihood = Likelihood(time_s, g)
    law, free = _most_likely(likelihood)
    errors = _errors(likelihood, law, free)
    longest_s = float(data["programmed_clock_s"][0])
    tails = sigmas_of_kurtosis(likelihood, law)
    if tails > _JUMPS_SIGMAS:
        errors.pop("spread", None)
    estimates = _estimates(likelihood, law, errors, run, g.shape[1], longest_s)
    return _outcome(likelihood, law, estimates, tails)


# ---- search --------------------------------------------------------------------------------------


def _bounds(time_s: Array) -> list[tuple[float, float]]:
    return [
        (-20.0, 12.0),
        (0.0, 2.0),
        (-50.0, 50.0),
        (np.log(1e-5), np.log(0.5)),
        (0.0, 2.0),
        (0.02, 1.0),
        (float(np.log(1e-4 * time_s[0])), float(np.log(time_s[-1]))),
    ]


def _start(likelihood: Likelihood) -> Law:
    """Half of what steps differ by is taken as relaxation, half as noise."""
    per_decade = float(np.median(likelihood.steps**2)) / 0.45
    decades = float(np.log10(likelihood.time_s[-1] / likelihood.time_s[0]))
    variance = per_decade / 2 / decades * likelihood.time_s.size
    noise = np.sqrt(per_decade / 4) / np.median(likelihood.level)
    drift = float((likelihood.g[-1] - likelihood.g[0]).mean() / decades)
    onset = np.log(0.1 * likelihood.time_s[0])
    tiny = 1e-12
    return Law(
        float(np.log(variance + tiny)), 0.4, drift, float(np.log(noise + 1e-4)), 0.5, 0.3, onset
    )


def _most_likely(likelihood: Likelihood) -> tuple[Law, list[str]]:
    """The law, and which of its parameters the data have moved off their limits."""
    bounds, start = _bounds(likelihood.time_s), _start(likelihood)

    def lost(x: Array) -> float:
        return -float(likelihood(Law(*x.tolist())).sum()) / likelihood.g.shape[1]

    x0 = np.clip(start.vector, *np.array(bounds).T)
    options = {"maxiter": 200, "ftol": 1e-9, "eps": 1e-5}
    found = minimize(lost, x0, bounds=bounds, method="L-BFGS-B", options=options).x
    free = [
        name
        for name, x, (low, high) in zip(_NAMES, found.tolist(), bounds, strict=True)
        if low + 0.01 * min(1.0, high - low) < x < high - 0.01 * min(1.0, high - low)
    ]
    return Law(*found.tolist()), free


def _errors(likelihood: Likelihood, law: Law, free: list[str]) -> dict[str, float]:
    """Standard errors of free parameters: H^-1 J H^-1 with J from the cells' own scores."""

    def at(**moved: float) -> Array:
        return likelihood(replace(law, **moved))

    def shifted(change: dict[str, float]) -> Array:
        return at(**{name: getattr(law, name) + by for name, by in change.items()})

    hessian = _hessian(lambda change: float(shifted(change).sum()), free)
    seen = -np.diag(hessian) > _SEEN
    hessian = hessian[np.ix_(seen, seen)]
    free = [name for name, one in zip(free, seen.tolist(), strict=True) if one]
    scores = np.stack([(shifted({k: _STEP}) - shifted({k: -_STEP})) / (2 * _STEP) for k in free])
    inverse = np.linalg.pinv(-hessian)
    covariance = inverse @ (scores @ scores.T) @ inverse
    return dict(zip(free, np.sqrt(np.abs(np.diag(covariance))).tolist(), strict=True))


def _hessian(total: Callable[[dict[str, float]], float], free: list[str]) -> Array:
    """Second derivatives by differences."""
    h, n = 10 * _STEP, len(free)
    middle, result = total({}), np.zeros((n, n))
    for i, a in enumerate(free):
        result[i, i] = (total({a: h}) - 2 * middle + total({a: -h})) / h**2
        for j, b in enumerate(free[:i]):
            corners = (
                total({a: h, b: h}) - total({a: h, b: -h}) - total({a: -h, b: h})
                + total({a: -h, b: -h})
            )  # fmt: skip
            result[i, j] = result[j, i] = corners / (4 * h**2)
    return result


# ---- outcome ------------------------------------------------------------------------------------


def _estimates(
    likelihood: Likelihood,
    law: Law,
    errors: dict[str, float],
    run: str,
    cells: int,
    longest_s: float,
) -> list[Estimate]:
    variance = float(np.exp(law.log_variance)) * MICRO**2
    nan = float("nan")
    # of what is known by its logarithm, the upper of both errors: e^s - 1
    found = [
        ("relax_siemens2_per_decade", variance, variance * _expm1(errors.get("log_variance", nan))),
        ("relax_mean_siemens_per_decade", law.mean * MICRO, errors.get("mean", nan) * MICRO),
    ]
    if cells >= _CELLS_FOR_SPREAD and "spread" in errors:
        found.append(("relax_spread", law.spread, errors["spread"]))
    onset_s = float(np.exp(law.log_onset))
    known = errors.get("log_onset", np.inf) < _KNOWN
    if known and onset_s > _FAR * longest_s:
        without = replace(law, log_onset=float(np.log(1e-4 * likelihood.time_s[0])))
        if float((likelihood(law) - likelihood(without)).sum()) > _CLEAR:
            found.append(("relax_onset_s", onset_s, onset_s * _expm1(errors["log_onset"])))
    return [Estimate(n, float(v), float(e), (run,), f"{cells} cells") for n, v, e in found]


def _outcome(
    likelihood: Likelihood, law: Law, estimates: list[Estimate], tails: float
) -> RetentionFit:
    since = likelihood.g - likelihood.g[0]
    passed = np.concatenate([[0.0], np.cumsum(likelihood.decades(law))])
    relaxed = np.exp(law.log_variance) * passed
    ahead = np.tril(np.ones((passed.size, passed.size - 1)), -1)  # sums of steps
    noise = np.diag(ahead @ likelihood.noise(law) @ ahead.T) * law.noise_variance
    level2 = float((likelihood.level**2).mean())
    residuals = [
        _steps_residual(likelihood, law),
        Residual("kurtosis over time of the median cell's steps", tails**2, 1),
    ]
    cells = likelihood.g.shape[1]
    return RetentionFit(
        estimates,
        residuals,
        likelihood.time_s,
        since.mean(1) * MICRO,
        since.std(1, ddof=1) * MICRO,
        law.mean * passed * MICRO,
        np.sqrt(relaxed + noise * level2) * MICRO,
        np.sqrt(relaxed) * MICRO,
        cells,
        tails > _JUMPS_SIGMAS,
    )


def _expm1(sigma: float) -> float:
    return float(np.expm1(sigma))


def _steps_residual(likelihood: Likelihood, law: Law) -> Residual:
    """Mean square of every step over cells, beside the law's.

    The variance v of a step differs between cells, so that its square over the mean of v has the
    variance 3 E[v^2] / E[v]^2 - 1.
    """
    decades = likelihood.decades(law)
    noise = np.diag(likelihood.noise(law)) * law.noise_variance
    relaxed = np.exp(law.log_variance) * decades[:, None]
    read = noise[:, None] * likelihood.level**2
    expected = relaxed + read
    square = (
        relaxed**2 * np.exp(4 * law.spread**2)
        + 2 * relaxed * read
        + read**2 * np.exp(4 * law.noise_spread**2)
    )
    ratio = (likelihood.steps - law.mean * decades[:, None]) ** 2 / expected
    variance = (3 * square / expected**2 - 1).mean(1) / ratio.shape[1]
    chi2 = float(((np.minimum(ratio, _FAR_OFF).mean(1) - 1) ** 2 / variance).sum())
    return Residual("mean square of every step of time", chi2, decades.size - 3)
