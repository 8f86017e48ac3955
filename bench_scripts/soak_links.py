"""Give many pulses over a line that drops, doubles, delays, reorders, cuts and flips, and count.

Host, bridge and emulated board (preset `ideal`: cells without spread, which count their pulses all
the same) are real; the line between them and its time are simulated. At the end every cell must
have seen the pulses that were asked for: those of runs that were started, and of runs whose START
was given up all or none.

    python bench_scripts/soak_links.py --pulses 1000000 --loss 0.3 --seed 1
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from rram_host.transports.framed import FramedTransport, LinkSettings
from sim.board import EmulatedBoard
from tests.lossy import Bridge, LossyLine, SimulatedTime
from tests.pulse_rig import PulseHost

CELLS = 64
PIECES = (None, (16, 64), (1, 200))


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pulses", type=int, default=20_000, help="pulses to ask for")
    parser.add_argument("--per-run", type=int, default=50, help="pulses of a program")
    parser.add_argument("--loss", type=float, default=0.3, help="share of chunks with a fault")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=10.0, help="of a request, simulated s")
    parser.add_argument("--restart-every", type=int, default=200, help="runs; 0 for never")
    parser.add_argument("--cut-every", type=int, default=97, help="runs; 0 for never")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


class Soak:
    """A host, a bad line, a bridge and a board, and what has happened to them."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked, self.clock = asked, SimulatedTime()
        self.rng = np.random.default_rng(asked.seed)
        self.board = EmulatedBoard("ideal", seed=asked.seed)
        self.bridges = 0
        self.line = LossyLine(self._far_end(), self.rng, asked.loss, time=self.clock)
        settings = LinkSettings(timeout_s=asked.timeout, connect_s=asked.timeout)
        self.link = FramedTransport(self.line, "soak", settings, self.clock)
        self.host = PulseHost(self.link, self.clock, self.board.spec)
        self.executed = self.repeated = self.runs = self.cuts = 0

    def _far_end(self):
        self.bridges += 1
        self.bridge = Bridge(self.board, self.clock, (self.asked.seed, self.bridges))
        return self.bridge.plug()

    def _take_notes(self) -> None:
        self.executed += self.bridge.agent.executed
        self.repeated += self.bridge.agent.repeated

    def run(self) -> None:
        """Ask until the pulses of all runs that were started are enough."""
        while self.host.done.sum() < self.asked.pulses:
            self.runs += 1
            self._trouble()
            row, col = divmod(int(self.rng.integers(CELLS)), 32)
            failed = self.host.ask(row, col, self.asked.per_run)
            if failed is None:  # a later session was answered: nothing of before can still come
                self.host.settle(self.board.truth.pulses)
        self.line.rate, self.line.dead = 0.0, False
        self.clock.pass_s(10 * self.line.late_s)
        self.host.check(self.board.truth.pulses)
        self._take_notes()

    def _trouble(self) -> None:
        asked = self.asked
        if asked.restart_every and not self.runs % asked.restart_every:
            self._take_notes()
            self.line.far = self._far_end()
            self.line.repeat()  # what a network may still hold
        self.line.dead = bool(asked.cut_every and not self.runs % asked.cut_every)
        self.cuts += self.line.dead
        self.line.piece = PIECES[self.runs % len(PIECES)]
        self.line.rate = asked.loss if self.line.piece is None else asked.loss / 2

    def figures(self, took_s: float) -> dict[str, object]:
        """What to report."""
        return {
            "pulses asked for": int(self.host.done.sum()),
            "pulses applied": int(self.board.truth.pulses.sum()),
            "pulses unknown": int(self.host.unknown.sum()),
            "runs": self.runs,
            "link errors": self.host.errors,
            "of them by cutting the line": self.cuts,
            "restarts of the bridge": self.bridges - 1,
            "chunks": self.line.chunks,
            "faults": self.line.hits,
            "faults by kind": self.line.faults,
            "requests sent again": self.link.resent,
            "requests executed": self.executed,
            "requests answered from memory": self.repeated,
            "strays": self.link.strays,
            "simulated s": round(self.clock.now, 1),
            "wall s": round(took_s, 1),
        }


def main() -> int:
    """Run, print, and say by the exit code whether every pulse was given once."""
    asked = options()
    soak, begun_s = Soak(asked), time.monotonic()
    try:
        soak.run()
        wrong = ""
    except AssertionError as error:
        wrong = str(error)
    figures = soak.figures(time.monotonic() - begun_s)
    if asked.json:
        print(json.dumps(figures | {"wrong": wrong}))
    else:
        for name, value in figures.items():
            print(f"{name:32}{value}")
        print(wrong or "every pulse was given once, to its cell")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
