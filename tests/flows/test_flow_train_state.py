"""The state of a training on disk: killed at any instant, it goes on to the same weights."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rram_host.errors import InputError
from rram_host.flows import train_state
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.training import (
    FinetuneSettings,
    TrainingStopped,
    TrainLog,
    TrainSettings,
    finetune,
    train,
)
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action

_FLOW = FlowSettings(hidden=8, steps=2)
_ACTION = Phi4Action(-4.0, 5.5)
_SETTINGS = TrainSettings(steps=12, batch=16, warmup=2, log_every=4, seed=3)


def _flow() -> CouplingFlow:
    return CouplingFlow(_FLOW)


def _whole() -> tuple[CouplingFlow, list[TrainLog]]:
    flow = _flow()
    return flow, train(flow, _ACTION, _SETTINGS)


def _same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _untimed(log: list[TrainLog]) -> list[TrainLog]:
    return [replace(entry, seconds=0.0) for entry in log]


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is written after every step, so that no clock decides what is on disk."""
    monkeypatch.setattr(train_state, "_EVERY_S", 0.0)


def _train_and_die(state: Path, moment: str) -> None:
    """Train, and kill this process in its sixth writing of the state."""
    write, writes = train_state._replace, iter(range(1, 1000))

    def die(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(path: Path, content: bytes) -> None:
        if next(writes) < 6:
            return write(path, content)
        if moment == "torn":
            path.with_name(f".{path.name}.new").write_bytes(content[: len(content) // 2])
        if moment == "not renamed":
            Path.replace = die  # type: ignore[method-assign]
        if moment in ("not renamed", "renamed"):
            write(path, content)
        return die()

    train_state._replace = dying
    train(_flow(), _ACTION, _SETTINGS, state=state)


def _killed(state: Path, moment: str) -> bool:
    """Whether a process that trains and dies was killed, as it should."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # threads do not come along
            _train_and_die(state, moment)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("moment", ["before", "torn", "not renamed", "renamed"])
def test_killed_at_any_moment_of_a_writing_it_goes_on_bit_for_bit(
    tmp_path: Path, moment: str
) -> None:
    state = tmp_path / "state"
    assert _killed(state, moment)
    whole, log = _whole()
    steps: list[int] = []
    flow = _flow()
    found = train(flow, _ACTION, _SETTINGS, lambda entry: steps.append(entry.step), state)
    assert _same(flow, whole)
    assert _untimed(found) == _untimed(log)  # entries from before the kill included
    assert steps == [8, 12]  # not from the beginning: step 4 was told of before the kill


@pytest.mark.parametrize("at", [1, 5, 11])
def test_stopped_and_gone_on_it_ends_the_same(tmp_path: Path, at: int) -> None:
    whole, log = _whole()
    state, asked = tmp_path / "state", iter(range(1, 100))
    with pytest.raises(TrainingStopped, match=f"after step {at} of 12") as caught:
        train(_flow(), _ACTION, _SETTINGS, state=state, should_stop=lambda: next(asked) == at)
    assert caught.value.step == at
    flow = _flow()
    assert _untimed(train(flow, _ACTION, _SETTINGS, state=state)) == _untimed(log)
    assert _same(flow, whole)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    one, two = _flow(), _flow()
    log = train(one, _ACTION, _SETTINGS, state=state)
    told: list[TrainLog] = []
    assert train(two, _ACTION, _SETTINGS, told.append, state) == log
    assert told == []
    assert _same(one, two)


def test_finetuning_goes_on_too(tmp_path: Path) -> None:
    settings = FinetuneSettings("digital", steps=6, batch=16, warmup=0, log_every=2)
    base, whole = _flow(), _flow()
    finetune(whole, _ACTION, settings)
    asked = iter(range(1, 100))
    state = tmp_path / "state"
    with pytest.raises(TrainingStopped):
        finetune(base, _ACTION, settings, state=state, should_stop=lambda: next(asked) == 3)
    again = _flow()
    finetune(again, _ACTION, settings, state=state)
    assert _same(again, whole)


Change = Callable[[CouplingFlow], tuple[CouplingFlow, Action, TrainSettings]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f, _ACTION, replace(_SETTINGS, lr=1e-3)), "settings.lr is 0.006 there, 0.001"),
        (lambda f: (f, Phi4Action(-4.0, 6.0), _SETTINGS), "action.lam is 5.5 there, 6.0"),
        (lambda f: (f, GrapheneAction(1.0, 0.0), _SETTINGS), "action.name is phi4 there, graphene"),
        (lambda f: (CouplingFlow(replace(_FLOW, hidden=4)), _ACTION, _SETTINGS), "flow.hidden"),
        (
            lambda f: (CouplingFlow(_FLOW).double(), _ACTION, _SETTINGS),
            "weights at the start",
        ),
    ],
)
def test_a_state_of_another_training_is_refused(tmp_path: Path, change: Change, words: str) -> None:
    state = tmp_path / "state"
    train(_flow(), _ACTION, _SETTINGS, state=state)
    flow, action, settings = change(_flow())
    before = state.read_bytes()
    with pytest.raises(InputError, match="of another training") as caught:
        train(flow, action, settings, state=state)
    assert words in str(caught.value)
    assert state.read_bytes() == before


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_bytes(b"something else")
    with pytest.raises(InputError, match="not the state of a training"):
        train(_flow(), _ACTION, _SETTINGS, state=state)
    assert state.read_bytes() == b"something else"


def test_two_trainings_do_not_share_a_state(tmp_path: Path) -> None:
    state = tmp_path / "state"

    def inside(_: TrainLog) -> None:
        with pytest.raises(InputError, match="another process trains"):
            train(_flow(), _ACTION, _SETTINGS, state=state)

    train(_flow(), _ACTION, _SETTINGS, inside, state)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for state in (tmp_path / "none" / "state", str(tmp_path / "none" / "state")):
        with pytest.raises(InputError, match="cannot write into"):
            train(_flow(), _ACTION, _SETTINGS, state=state)
