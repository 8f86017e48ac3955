"""--policy and its settings: the same options for every command that programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rram_host.array.policies import POLICY_NAMES, CoarseFine, Policy, policy_named

Function = TypeVar("Function", bound=Callable[..., Any])

# Field of a policy, option, type, what it does. Conductances are given in microsiemens.
_SETTINGS: tuple[tuple[str, str, type, str], ...] = (
    ("tolerance_siemens", "--tolerance", float, "µS: a cell is done within this of its target."),
    ("accept_siemens", "--accept", float, "µS: a cell that was done is taken up again beyond it."),
    ("max_pulses", "--max-pulses", int, "SET and RESET pulses a cell may get."),
    ("verify_reads", "--verify-reads", int, "Readings averaged after each pulse."),
    ("max_confirms", "--max-confirms", int, "How often cells that were done may go on."),
    ("confirm_reads", "--confirm-reads", int, "Readings averaged to confirm, or after a wait."),
    (
        *("pulse_width_s", "--pulse-width", float),
        "s: of SET and RESET; default of the board file. DACs settling add about 5 us to it.",
    ),
    ("start_v", "--start", float, "V: first SET gate voltage above the lower line (ispp)."),
    ("step_v", "--step", float, "V: step of SET gate voltages (ispp)."),
    ("stop_v", "--stop", float, "V: highest SET gate voltage above the lower line."),
    ("reset_start_v", "--reset-start", float, "V: first RESET voltage (ispp)."),
    ("reset_step_v", "--reset-step", float, "V: step of RESET voltages (ispp)."),
    ("reset_stop_v", "--reset-stop", float, "V: highest RESET voltage (ispp)."),
    ("max_reversals", "--max-reversals", int, "Changes of direction before giving up (ispp)."),
    ("inner", "--inner", str, "Policy of each pass (multi-pass)."),
    ("passes", "--passes", int, "Passes, the first included (multi-pass)."),
    ("relax_wait_s", "--relax-wait", float, "s: first wait for relaxation (multi-pass)."),
    ("wait_growth", "--wait-growth", float, "Ratio of a wait to the one before (multi-pass)."),
    ("retake_siemens", "--retake", float, "µS: cells off by more go again (multi-pass)."),
    ("last_retake_siemens", "--last-retake", float, "µS: the same after the last wait."),
    ("retake_errors", "--retake-errors", float, "Standard errors allowed for (multi-pass)."),
)


def policy_options(function: Function) -> Function:
    """--policy and its settings, handed to the command as one argument `policy`."""

    def command(**values: Any) -> Any:
        return function(**{**_others(values), "policy": policy_of(values)})

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    # a function may have got options already
    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    wrapped: Any = command
    for field, flag, kind, text in reversed(_SETTINGS):
        wrapped = click.option(flag, field, type=kind, default=None, help=text)(wrapped)
    result: Function = click.option(
        "--policy",
        "policy_name",
        type=click.Choice(POLICY_NAMES),
        default=CoarseFine.name,
        show_default=True,
        help="How cells are brought to their targets.",
    )(wrapped)
    return result


def policy_of(values: dict[str, Any]) -> Policy:
    """The policy that options ask for.

    Raises:
        InputError: a setting that it does not have, or a value that cannot work.
    """
    given = {field: values[field] for field, *_ in _SETTINGS if values[field] is not None}
    for field in given:
        if field.endswith("_siemens"):
            given[field] *= 1e-6
    return policy_named(values["policy_name"], **given)


def _others(values: dict[str, Any]) -> dict[str, Any]:
    mine = {"policy_name", *(field for field, *_ in _SETTINGS)}
    return {name: value for name, value in values.items() if name not in mine}
