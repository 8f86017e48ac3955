"""A host that records a programming run, in a process that can be ended in any way.

A `Nursery` is a process that has everything imported and does nothing but fork such hosts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firmware_bridge import board_spec
from rram_host import open_board
from rram_host.experiments.experiment import Experiment, setting
from rram_host.experiments.recording import record
from rram_host.records.columns import Column
from sim import EmulatedBoard

T_S = 0.3
SPEC = dataclasses.replace(board_spec.load(), watchdog_s=T_S)
CELLS = ((3, 4), (5, 6))
RAISES, EXITS = signal.SIGUSR1, signal.SIGUSR2  # what a host does when it gets them


@dataclass(frozen=True)
class PulsesPlan:
    n_units: int = setting(12, "SET pulses", flag="units")


def columns(plan, spec):
    return (Column("conductance_siemens", "S", "conductance", "f8", ("cell",), (len(CELLS),)),)


def run(board, plan, start, done):
    places = tuple(np.transpose(CELLS))
    mask = np.zeros((32, 32), dtype=bool)
    mask[places] = True
    for unit in range(start, plan.n_units):
        g = board.array.set_cells(mask, np.full((32, 32), 1.2 + 0.02 * unit))
        yield {"conductance_siemens": g[places][None]}


PULSES = Experiment(
    name="pulses",
    title="SET pulses",
    help="Pulses, and a look at the cells behind each.",
    plan=PulsesPlan,
    columns=columns,
    units=lambda plan, spec: plan.n_units,
    run=run,
    findings=lambda plan, data: [],
    draw=lambda figure, plan, data: figure.subplots(),
)


def _fails(*_: object) -> None:
    raise RuntimeError("something in the host")


def _exits(*_: object) -> None:
    os._exit(9)


def _host(url: str, path: Path, n_units: int) -> None:
    """Record a run, or go on with it; never returns."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(RAISES, _fails)
    signal.signal(EXITS, _exits)
    try:
        with open_board(url, spec=SPEC) as board:
            record(board, PULSES, PulsesPlan(n_units), path, resume=path.exists())
        os._exit(0)
    except BaseException:
        path.with_suffix(".txt").write_text(traceback.format_exc(), encoding="utf-8")
        os._exit(3)


class Nursery:
    """Forks hosts; made before the test has threads."""

    def __init__(self) -> None:
        asked, ask = os.pipe()
        told, tell = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(ask)
            os.close(told)
            try:
                _tend(os.fdopen(asked), tell)
            finally:
                os._exit(0)
        os.close(asked)
        os.close(tell)
        self._ask, self._told = os.fdopen(ask, "w"), os.fdopen(told)

    def host(self, url: str, path: Path, n_units: int) -> int:
        """Begin a host; its process id."""
        print(json.dumps([url, str(path), n_units]), file=self._ask, flush=True)
        return int(self._told.readline())

    def ended(self) -> int:
        """Wait for its end; exit code, negative for a signal."""
        return int(self._told.readline())

    def close(self) -> None:
        """End the process."""
        self._ask.close()
        self._told.close()
        os.waitpid(self._pid, 0)


def _warm_up() -> None:
    """What is compiled on first use is there in every host then."""
    emulated = EmulatedBoard("ideal", spec=SPEC)
    emulated.bench.cells.formed[:] = True
    with tempfile.TemporaryDirectory() as folder, open_board(emulated, spec=SPEC) as board:
        record(board, PULSES, PulsesPlan(1), Path(folder) / "x.h5")


def _tend(orders, tell: int) -> None:
    _warm_up()
    for order in orders:
        url, path, n_units = json.loads(order)
        pid = os.fork()
        if not pid:
            _host(url, Path(path), n_units)
        os.write(tell, f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(tell, f"{code}\n".encode())
