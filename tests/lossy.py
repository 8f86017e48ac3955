"""A line that damages what it carries, in simulated time: seconds pass only while somebody waits.

Faults are drawn from one seeded generator, so that what a line once did it does again.
"""

import heapq
import itertools
from collections import deque

import numpy as np

from firmware_bridge.agent import Agent
from firmware_bridge.client import Client

KINDS = ("drop", "double", "delay", "swap", "cut", "flip", "burst")
BYTES_PER_S = 1e7  # nothing is free: a flood of bytes takes time, too


class SimulatedTime:
    """Seconds, and what shall happen when; several lines may share one.

    Calling it returns the time.
    """

    def __init__(self):
        self.now = 0.0
        self._due, self._ties = [], itertools.count()

    def __call__(self):
        return self.now

    def at(self, due_s, action):
        heapq.heappush(self._due, (due_s, next(self._ties), action))

    def step(self, until_s):
        """Let the next thing happen, if it is due by then; False where nothing is."""
        if not self._due or self._due[0][0] > until_s:
            return False
        due_s, _, action = heapq.heappop(self._due)
        self.now = max(self.now, due_s)
        action()
        return True

    def pass_s(self, seconds):
        """Let time pass with all that is due in it."""
        until_s = self.now + seconds
        while self.step(until_s):
            pass
        self.now = until_s


class Bridge:
    """An agent in front of a window, with the clock of the line; `plug` gives a far end.

    Numbers are drawn at random, as by every bridge: that is what makes it differ from the one that
    was there before, whose seed was another.
    """

    def __init__(self, window, clock, seed=0):
        self.clock, rng = clock, np.random.default_rng(seed)
        draw = lambda: int(rng.integers(1, 1 << 31))  # noqa: E731
        self.agent = Agent(window, clock=clock, draw_first=draw)

    def plug(self, peer="a host"):
        return Client(self.agent, peer, clock=self.clock)


class LossyLine:
    """A `Stream` whose far end is anything with `feed(data) -> replies`; faults both ways.

    Args:
        far: the far end; may be exchanged at any time, as by a restart.
        rng: all faults come from it.
        rate: probability that a chunk is hit by a fault, drawn evenly from `kinds`; a chunk that
            was hit is hit again with the same probability.
        piece: bytes a chunk has at most, or (least, most) to draw from; None leaves frames whole.
        kinds: what may happen.
        time: shared with other lines.
        late_s: the longest delay.

    Attributes:
        dead: nothing arrives any more, in either direction.
        faults: how often each kind has hit.
        chunks: chunks that were sent, both ways.
        sent: the last things that the host wrote, for a network that holds copies of them.
    """

    def __init__(self, far, rng, rate=0.0, piece=None, kinds=KINDS, time=None, late_s=3.0):
        self.far, self.rng, self.rate, self.piece = far, rng, rate, piece
        self.kinds, self.clock, self.late_s = kinds, time or SimulatedTime(), late_s
        self.dead, self.chunks = False, 0
        self.faults = dict.fromkeys(kinds, 0)
        self.sent = deque(maxlen=400)
        self._near = bytearray()
        self._held = {}

    @property
    def hits(self):
        return sum(self.faults.values())

    # ---- Stream -----------------------------------------------------------------------------

    def write(self, data):
        self.sent.append(data)
        self._send(data, self._arrive_far)

    def repeat(self, back=400):
        """Old copies of the last that was written arrive once more, in order and undamaged."""
        for data in list(self.sent)[-back:]:
            self._arrive_far(data)

    def read(self, timeout_s):
        until_s = self.clock.now + timeout_s
        while not self._near and self.clock.step(until_s):
            pass
        data = bytes(self._near)
        self._near.clear()
        self.clock.now = self.clock.now + len(data) / BYTES_PER_S if data else until_s
        return data

    def close(self):
        self.dead = True

    # ---- what happens on the way ------------------------------------------------------------

    def _send(self, data, arrive):
        for piece in self._pieces(data):
            self.chunks += 1
            waiting = self._held.pop(arrive, None)
            for late_s, part in self._damaged(piece):
                if late_s is None:
                    self._hold(arrive, part)
                elif late_s:
                    self.clock.at(self.clock.now + late_s, lambda part=part: arrive(part))
                else:
                    arrive(part)
            if waiting:
                waiting()

    def _pieces(self, data):
        if self.piece is None:
            return [data]
        low, high = self.piece if isinstance(self.piece, tuple) else (self.piece, self.piece)
        pieces, start = [], 0
        while start < len(data):
            size = low if low == high else int(self.rng.integers(low, high + 1))
            pieces.append(data[start : start + size])
            start += size
        return pieces

    def _hold(self, arrive, part):
        """Until the next chunk of this way has overtaken it, or for a while."""
        left = [part]

        def release():
            if left:
                arrive(left.pop())

        self._held[arrive] = release
        self.clock.at(self.clock.now + self.late_s * self.rng.random(), release)

    def _damaged(self, piece):
        """What becomes of a chunk: (delay, bytes) of each copy; a delay of None swaps it."""
        copies = [(0.0, piece)]
        while self.rate and self.rng.random() < self.rate:
            kind = self.kinds[int(self.rng.integers(len(self.kinds)))]
            self.faults[kind] += 1
            copies = [item for copy in copies for item in getattr(self, f"_{kind}")(*copy)]
        return copies

    def _drop(self, late_s, part):
        return []

    def _double(self, late_s, part):
        return [(late_s, part), (late_s, part)]

    def _delay(self, late_s, part):
        return [((late_s or 0.0) + self.late_s * self.rng.random(), part)]

    def _swap(self, late_s, part):
        return [(late_s or None, part)]

    def _cut(self, late_s, part):
        """Lose the end, as a buffer that ran over does."""
        return [(late_s, part[: int(self.rng.integers(len(part)))])] if part else []

    def _flip(self, late_s, part):
        return [(late_s, self._flipped(part, 1))] if part else []

    def _burst(self, late_s, part):
        """Up to 64 bits in a row become noise."""
        return [(late_s, self._flipped(part, int(self.rng.integers(2, 65))))] if part else []

    def _flipped(self, part, bits):
        damaged = bytearray(part)
        start = int(self.rng.integers(8 * len(part)))
        for bit in range(start, min(start + bits, 8 * len(part))):
            if bits == 1 or bit == start or self.rng.random() < 0.5:
                damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _arrive_far(self, part):
        if not self.dead and part:
            for reply in self.far.feed(part):
                self._send(reply, self._arrive_near)

    def _arrive_near(self, part):
        if not self.dead:
            self._near += part
