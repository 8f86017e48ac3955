"""Write-verify policies: how cells are brought to their targets, behind one interface.

    ispp          staircases of rising voltage, up and down: what every lab begins with
    coarse-fine   predicts each pulse from what the cell's pulses so far have done (as RADAR does)
    multi-pass    any of these, then waits, reads again, and takes up what relaxation moved away,
                  judged by the mean of what a cell has read since its last pulse

Every round is one program over the whole array: SET pulses for cells that are too low, RESET pulses
for those that are too high, then a read of all.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.response import Landing
from rram_host.array.stepping import Predicting, Staircase, Stairs, Stepper
from rram_host.array.watch import Watch
from rram_host.array.write_verify import Job
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]

MAX_WAIT_S = 1e7
MAX_GROWTH = 1000.0
MAX_READS = 10_000


class Policy(Protocol):
    """A way to bring cells to their targets."""

    @property
    def name(self) -> str:
        """What `policy_named` knows it by."""
        ...

    @property
    def accept_siemens(self) -> float:
        """A cell counts as converged when its last reading is within this of its target."""
        ...

    def write(self, job: Job) -> None:
        """Give pulses until there is nothing left to do."""
        ...


@dataclass(frozen=True)
class SinglePass(ABC):
    """What policies of one pass share.

    Attributes:
        tolerance_siemens: a cell is done once it reads within this of its target.
        accept_siemens: a cell that was done is taken up again when the reading that confirms it
            is farther off than this; it has converged when its last reading is within it.
        max_pulses: SET and RESET pulses a cell may get, forming not counted.
        verify_reads: readings averaged after each pulse.
        confirm_reads: readings averaged once all seem done.
        max_confirms: how often at most such cells go on.
        max_parallel_reset: cells of one row that are RESET by one pulse.
        pulse_width_s: of SET and RESET; None: each as in the board file. Cells carry the voltage
            while outputs settle, too: about 5 us longer (`reports.carried_s`).
    """

    tolerance_siemens: float = 0.5e-6
    accept_siemens: float = 1.2e-6
    max_pulses: int = 40
    verify_reads: int = 1
    confirm_reads: int = 4
    max_confirms: int = 8
    max_parallel_reset: int = 16
    pulse_width_s: float | None = None
    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            InputError: names the setting and its bounds.
        """
        if not 0 < self.tolerance_siemens < np.inf:
            raise InputError(f"tolerance {self.tolerance_siemens} S must be above 0 S and finite")
        if not self.tolerance_siemens <= self.accept_siemens < np.inf:
            raise InputError(
                f"accept {self.accept_siemens} S must be at least the tolerance of "
                f"{self.tolerance_siemens} S, and finite"
            )
        for name in (
            "max_pulses",
            "verify_reads",
            "confirm_reads",
            "max_confirms",
            "max_parallel_reset",
        ):
            check_count(name, getattr(self, name))
        if self.pulse_width_s is not None and not 0 < self.pulse_width_s < 1:
            raise InputError(f"pulse width {self.pulse_width_s} s is outside 0..1 s")

    @abstractmethod
    def stepper(self, spec: BoardSpec, targets: Array) -> Stepper:
        """What chooses the pulses of one job: targets in siemens, (rows, cols)."""

    def write(self, job: Job) -> None:
        """See `Policy`."""
        job.converge(self.stepper(job.spec, job.targets), self)


@dataclass(frozen=True)
class CoarseFine(SinglePass):
    """Predicts every pulse from the cell's own response; the first ones from the board file's.

    Attributes:
        landing: how well it is known beforehand where pulses end.
        stop_v: highest compliance of a SET (gate above the lower line); None: the board's limit.
    """

    landing: Landing = field(default_factory=Landing)
    stop_v: float | None = None
    name: ClassVar[str] = "coarse-fine"

    def stepper(self, spec: BoardSpec, targets: Array) -> Predicting:
        """See `SinglePass`.

        Raises:
            InputError: `stop_v` is beyond the board's limit.
        """
        most_v = spec.compliance_limit_v()
        stop_v = _or(self.stop_v, most_v)
        if not 0 < stop_v <= most_v:
            raise InputError(
                f"SET gate voltage up to {stop_v} V is outside 0..{most_v:.4g} V (limits.wl) "
                f"above the lower line ({spec.polarity})"
            )
        return Predicting(spec, targets, self.landing, stop_v)


@dataclass(frozen=True)
class Ispp(SinglePass):
    """Incremental step pulse programming: staircases of gate voltage up, of RESET voltage down.

    A cell that passes its target is taken the other way by the other staircase.

    Attributes:
        start_v, step_v, stop_v: compliances of SET pulses (gate above the lower line); stop None:
            the board's limit.
        reset_start_v, reset_step_v, reset_stop_v: RESET voltages; start and stop None: the board
            file's.
        max_reversals: changes of direction after which a cell is given up.
        backoff_v: a staircase that is taken up again begins this far below where it stood; None:
            at its start, as NeuRRAM does.
    """

    start_v: float = 0.8
    step_v: float = 0.05
    stop_v: float | None = None
    reset_start_v: float | None = None
    reset_step_v: float = 0.05
    reset_stop_v: float | None = None
    max_reversals: int = 30
    backoff_v: float | None = 0.1
    name: ClassVar[str] = "ispp"

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        super().__post_init__()
        if self.max_reversals < 0:
            raise InputError(f"max_reversals = {self.max_reversals} must be at least 0")
        if self.backoff_v is not None and not 0 <= self.backoff_v < np.inf:
            raise InputError(f"backoff {self.backoff_v} V must be at least 0 V")

    def stepper(self, spec: BoardSpec, targets: Array) -> Staircase:
        """See `SinglePass`.

        Raises:
            InputError: a staircase that does not climb, or climbs beyond what the board gives.
        """
        p = spec.pulses
        up = Stairs(self.start_v, self.step_v, _or(self.stop_v, spec.compliance_limit_v()))
        start_v, stop_v = _or(self.reset_start_v, p.reset_start_v), p.reset_stop_v
        down = Stairs(start_v, self.reset_step_v, _or(self.reset_stop_v, stop_v))
        up.check("SET gate", spec.compliance_limit_v())
        down.check("RESET", stop_v)
        return Staircase(targets, up, down, self.max_reversals, self.backoff_v)


@dataclass(frozen=True)
class MultiPass:
    """Writes, and then again and again: wait, read again, take up cells that relaxed away.

    What a cell does after a pulse goes with the logarithm of time: most of it comes early. A cell
    that is still at its target after a wait has had most of its relaxation, and is left alone; only
    the others get new pulses, and a new start. A single reading also holds the 1/f and telegraph
    noise of its moment, so a cell is judged by the mean m of its readings, one a wait, since its
    last pulse, and by the standard error that the scatter of such readings gives it (`Watch`). It
    is taken up again if

        |m - target| > hypot(limit, retake_errors * standard error of m)

    so noise alone costs hardly any pulses. A cell that is taken up late has its relaxation still
    before it: the limit goes from `retake_siemens` to `last_retake_siemens` in equal ratios.

    Attributes:
        inner: how cells are brought to their targets in every pass.
        passes: how often, the first included; so there are passes - 1 waits.
        relax_wait_s: the first wait, in board time.
        wait_growth: ratio of a wait to the one before.
        retake_siemens: limit after the first wait.
        last_retake_siemens: the same after the last wait.
        retake_errors: standard errors of the mean that are allowed for.
        confirm_reads: readings averaged, after each wait, to one that counts.
    """

    inner: SinglePass = field(
        default_factory=lambda: CoarseFine(
            tolerance_siemens=0.7e-6, verify_reads=2, max_confirms=1, max_pulses=150
        )
    )
    passes: int = 61
    relax_wait_s: float = 120.0
    wait_growth: float = 1.0
    retake_siemens: float = 0.3e-6
    last_retake_siemens: float = 0.5e-6
    retake_errors: float = 2.0
    confirm_reads: int = 16
    name: ClassVar[str] = "multi-pass"

    def __post_init__(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            InputError: names the setting and its bounds.
        """
        for name in ("passes", "confirm_reads"):
            check_count(name, getattr(self, name))
        first, last = self.retake_siemens, self.last_retake_siemens
        if not (0 < first < np.inf and 0 < last < np.inf):
            raise InputError(f"retake from {first} S to {last} S: expected above 0 S and finite")
        if not 0 <= self.retake_errors < np.inf:
            raise InputError(f"retake_errors = {self.retake_errors} must be at least 0 and finite")
        if not 0 < self.relax_wait_s <= MAX_WAIT_S or not 1 <= self.wait_growth <= MAX_GROWTH:
            raise InputError(
                f"waits from {self.relax_wait_s} s, each {self.wait_growth} times the one before: "
                f"expected above 0 and at most {MAX_WAIT_S:g} s, and 1..{MAX_GROWTH:g} times"
            )
        if sum(self.waits_s) > MAX_WAIT_S:
            raise InputError(f"waits of {sum(self.waits_s):g} s are more than {MAX_WAIT_S:g} s")

    @property
    def accept_siemens(self) -> float:
        """See `Policy`: a cell that is not taken up again has converged."""
        return max(self.inner.accept_siemens, self.last_retake_siemens)

    @property
    def waits_s(self) -> tuple[float, ...]:
        """Waits between the passes, in seconds of board time."""
        return tuple(self.relax_wait_s * self.wait_growth**n for n in range(self.passes - 1))

    @property
    def retakes_siemens(self) -> tuple[float, ...]:
        """Limits after each of the waits."""
        n = self.passes - 1
        return tuple(np.geomspace(self.retake_siemens, self.last_retake_siemens, n).tolist())

    def write(self, job: Job) -> None:
        """See `Policy`."""
        stepper = self.inner.stepper(job.spec, job.targets)  # what it has learnt stays known
        watch = Watch(job.targets.shape)
        job.converge(stepper, self.inner)
        for wait_s, limit in zip(self.waits_s, self.retakes_siemens, strict=True):
            job.wait(wait_s)
            job.look(self.confirm_reads)
            watch.see(job.g)
            off = np.abs(watch.mean - job.targets)
            allowed = np.hypot(limit, self.retake_errors * watch.standard_error)
            before = job.pulses.copy()
            job.converge(stepper, self.inner, off > allowed)
            watch.forget(job.pulses > before)


_POLICIES: dict[str, type[Ispp] | type[CoarseFine] | type[MultiPass]] = {
    policy.name: policy for policy in (Ispp, CoarseFine, MultiPass)
}
POLICY_NAMES = tuple(_POLICIES)


def policy_named(name: str, **settings: Any) -> Policy:
    """A policy by name, with some settings other than the default.

    Settings that only the inner policy of "multi-pass" has are handed on to it; `inner` may be a
    name.

    Raises:
        InputError: unknown name or setting, or a value that cannot work.
    """
    kind = _POLICIES.get(name)
    if kind is None:
        raise InputError(f"no policy {name!r}; known: {', '.join(POLICY_NAMES)}")
    if kind is MultiPass:
        return _multi_pass(settings)
    _check_known(name, settings, kind)
    return kind(**settings)


def described(policy: Policy) -> dict[str, Any]:
    """Name and settings of a policy as plain values, its inner one's within."""
    values: dict[str, Any] = dataclasses.asdict(cast(Any, policy))
    inner = getattr(policy, "inner", None)
    nested = {} if inner is None else {"inner": described(inner)}
    return {"name": policy.name, **values, **nested}


def _multi_pass(settings: dict[str, Any]) -> MultiPass:
    own = {f.name for f in dataclasses.fields(MultiPass)}
    inner = settings.get("inner", MultiPass().inner)
    if isinstance(inner, str):
        inner = policy_named(inner)
    if not isinstance(inner, SinglePass):
        raise InputError(f"inner policy {settings['inner']!r} is not one of a single pass")
    handed = {name: value for name, value in settings.items() if name not in own}
    _check_known(f"multi-pass of {inner.name}", handed, type(inner))
    kept = {name: value for name, value in settings.items() if name in own}
    return MultiPass(**{**kept, "inner": dataclasses.replace(inner, **handed)})


def _check_known(name: str, settings: dict[str, Any], kind: type[Any]) -> None:
    known = [f.name for f in dataclasses.fields(kind)]
    for setting in settings:
        if setting not in known:
            raise InputError(f"policy {name} has no setting {setting!r}; it has {', '.join(known)}")


def check_count(name: str, value: int) -> None:
    """Refuse a count that is not one, or absurd.

    Raises:
        InputError: says which.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_READS:
        raise InputError(
            f"{name} = {value} must be a whole number, at least 1, at most {MAX_READS}"
        )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
