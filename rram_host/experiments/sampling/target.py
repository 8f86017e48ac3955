"""Which lattice and action a model may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rram_host.errors import InputError
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.lattice.actions import Action, action_of, settings_of

# How far from what a model was trained for, where its file does not say: beyond, few proposals of
# such a flow carry weight.
_SHARE, _LEAST = 0.25, 0.25


def check_lattice(loaded: LoadedFlow, shape: tuple[int, int] | None) -> None:
    """Refuse a model of another lattice than the one asked for.

    Raises:
        InputError: it is one.
    """
    if shape is not None and shape != loaded.flow.shape:
        has, asked = (f"{a} x {b}" for a, b in (loaded.flow.shape, shape))
        raise InputError(f"this model draws {has} sites, asked {asked}: a lattice needs its own")


def target_action(loaded: LoadedFlow, changes: Mapping[str, float], force: bool = False) -> Action:
    """The action to sample: what the model was trained for, or a neighbour of it.

    The weights lead to any action exactly; how well is for the ESS to say. So a neighbour must be
    asked for by name, and one far away by force.

    Args:
        loaded: the model. Its file may state {"range": {"lam": [4.5, 6.5]}} among its extra
            figures; otherwise a field may differ by a quarter, or by 0.25 where that is more.
        changes: fields of the action, e.g. {"lam": 6.0}; none for that of the model.
        force: take a value outside the range.

    Raises:
        InputError: the action has no such field, or the value is out of range.
    """
    settings = settings_of(loaded.action)
    for name, value in changes.items():
        if name not in settings:
            known = ", ".join(key for key in settings if key != "name")
            raise InputError(
                f"this model samples {settings['name']}, which has no {name}; it has {known}"
            )
        low, high = _range(loaded, name, float(settings[name]))
        if not (force or low <= value <= high):
            raise InputError(
                f"{name} = {value:g} is outside {low:g}..{high:g}, the range of this model, which "
                f"was trained at {settings[name]:g} (--force to reweight all the same)"
            )
    return action_of({**settings, **changes})


def _range(loaded: LoadedFlow, name: str, trained: float) -> tuple[float, float]:
    extra: Mapping[str, Any] = loaded.metadata.get("extra", {})
    stated = extra.get("range", {}).get(name)
    if stated is not None:
        return float(stated[0]), float(stated[1])
    around = max(_SHARE * abs(trained), _LEAST)
    return trained - around, trained + around
