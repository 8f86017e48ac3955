"""Batches of configurations drawn from a flow, in this process or split over several."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rram_host.errors import InputError, RramError
from rram_host.experiments.sampling.plan import DrawPlan
from rram_host.lattice.actions import Action

Array = npt.NDArray[np.float64]

MAX_PROCESSES = 256
_AHEAD = 2  # batches asked of every process beyond the one waited for


class Draws(Protocol):
    """A flow as far as drawing needs it."""

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Prior draws z."""
        ...

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Fields (n, L0, L1) and log q (n,)."""
        ...


@dataclass(frozen=True)
class Drawn:
    """Drawn configurations.

    Attributes:
        phi: (n, L0, L1), float64.
        log_q: log density of the flow, normalised, (n,), nats.
        log_p: -S, (n,), nats: log of the target up to its log Z.
    """

    phi: Array
    log_q: Array
    log_p: Array

    @property
    def log_w(self) -> Array:
        """Log weights log p - log q, (n,); the mean weight is Z."""
        return self.log_p - self.log_q


def draw_batch(flow: Draws, action: Action, plan: DrawPlan, index: int) -> Drawn:
    """Draw one batch of a plan: the same whichever process draws it, and whenever.

    Draws go through `push`, the method whose density a deployed flow is checked for. On an array
    the reads' noise is the array's own.
    """
    generator = torch.Generator().manual_seed(plan.prior_seed(index))
    with torch.no_grad(), _one_thread():
        phi, log_q = flow.push(flow.draw(plan.size(index), generator))
        return Drawn(*(t.double().numpy() for t in (phi, log_q, -action(phi))))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over one thread: products are small, and the last bits stay those of every machine."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw(flow: Draws, action: Action, plan: DrawPlan, start: int = 0) -> Generator[Drawn]:
    """Draw the batches of a plan from `start` on, in this process."""
    for index in range(start, plan.batches):
        yield draw_batch(flow, action, plan, index)


def draw_split(
    flow: Draws, action: Action, plan: DrawPlan, processes: int, start: int = 0
) -> Generator[Drawn]:
    """The same batches in the same order, drawn by several processes with one thread each.

    Args:
        flow: a flow in software; it is copied into every process.
        action: the target.
        plan: what to draw.
        processes: 1 to 256; never more than there are batches left.
        start: first batch.

    Raises:
        InputError: for a number of processes out of range, or a flow that cannot be copied.
        RramError: a process died.
    """
    if not 1 <= processes <= MAX_PROCESSES:
        raise InputError(f"processes = {processes} is outside 1..{MAX_PROCESSES}")
    processes = min(processes, plan.batches - start)
    if processes <= 1:
        yield from draw(flow, action, plan, start)
        return
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _begin, (_copied(flow, action, plan),)
    )
    try:
        yield from _in_order(pool, range(start, plan.batches), processes)
    except BrokenProcessPool as error:
        raise RramError(f"a process that drew configurations died: {error}") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _copied(flow: Draws, action: Action, plan: DrawPlan) -> bytes:
    try:
        return pickle.dumps((flow, action, plan))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise InputError(f"this flow cannot be copied into other processes: {error}") from None


def _in_order(pool: ProcessPoolExecutor, batches: range, processes: int) -> Generator[Drawn]:
    """Only so many are under way, so that what is drawn ahead does not fill the memory."""
    waiting: deque[Future[Drawn]] = deque()
    left = iter(batches)
    for index in left:
        waiting.append(pool.submit(_draw_here, index))
        if len(waiting) >= _AHEAD * processes:
            break
    while waiting:
        drawn = waiting.popleft().result()
        for index in left:
            waiting.append(pool.submit(_draw_here, index))
            break
        yield drawn


# ---- in the processes ---------------------------------------------------------------------------

_here: dict[str, tuple[Draws, Action, DrawPlan]] = {}


def _begin(copied: bytes) -> None:
    """Take the flow, leave Ctrl-C to the parent, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _here["job"] = pickle.loads(copied)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _draw_here(index: int) -> Drawn:
    return draw_batch(*_here["job"], index)
