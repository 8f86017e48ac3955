"""Stand-ins: a window that is only memory, a line that loses things, a remote serial port."""

import heapq
import select
import socket
import threading

import numpy as np
import serial
import serial.rfc2217

from firmware_bridge import registers
from firmware_bridge.frames import REQUESTS, FrameDecoder, encode
from firmware_bridge.windows import check_span


class MemoryWindow:
    """A register window without a board; remembers every write that reached it."""

    def __init__(self, window_bytes=registers.WINDOW_BYTES):
        self.words = np.zeros(window_bytes // 4, dtype=np.uint32)
        self.writes = []

    def read(self, address, count):
        check_span(address, count, 4 * self.words.size)
        return self.words[address // 4 : address // 4 + count].copy()

    def write(self, address, words):
        check_span(address, words.size, 4 * self.words.size)
        self.words[address // 4 : address // 4 + words.size] = words
        self.writes.append((address, words.tolist()))


class LossyLine:
    """A stream to an agent that drops, doubles, corrupts and delays pieces, both ways.

    Time is simulated: `now` moves only while somebody waits in `read`.

    Args:
        agent: who answers at the far end.
        rng: all faults come from it.
        rate: probability of each kind of fault, for each piece and way.
        piece: bytes a piece has at most; None leaves frames whole.
    """

    def __init__(self, agent, rng, rate, piece=None):
        self.agent, self.rng, self.rate, self.piece = agent, rng, rate, piece
        self.now, self.faults, self.dead = 0.0, 0, False
        self._far = FrameDecoder()
        self._near = bytearray()
        self._later = []

    def clock(self):
        return self.now

    def write(self, data):
        self._send(data, self._arrive_far)

    def read(self, timeout_s):
        until = self.now + timeout_s
        while not self._near and self._later and self._later[0][0] <= until:
            due, _, piece, arrive = heapq.heappop(self._later)
            self.now = max(self.now, due)
            arrive(piece)
        if not self._near:
            self.now = until
        data = bytes(self._near)
        self._near.clear()
        return data

    def close(self):
        self.dead = True

    def _happens(self):
        hit = self.rng.random() < self.rate
        self.faults += hit
        return hit

    def _send(self, data, arrive):
        size = self.piece or len(data)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if self.dead or self._happens():
                continue
            for _ in range(1 + self._happens()):
                if self._happens():
                    piece = self._corrupt(piece)
                if self._happens():
                    due = self.now + 3 * self.rng.random()
                    heapq.heappush(self._later, (due, self.rng.random(), piece, arrive))
                else:
                    arrive(piece)

    def _corrupt(self, piece):
        damaged = bytearray(piece)
        damaged[self.rng.integers(len(piece))] ^= int(self.rng.integers(1, 256))
        return bytes(damaged)

    def _arrive_far(self, piece):
        for frame in self._far.feed(piece):
            if frame.kind in REQUESTS:
                self._send(encode(self.agent.handle(frame)), self._near.extend)


class _NoModemLines(serial.Serial):
    """A pseudo-terminal has no modem lines, and RFC 2217 asks for them."""

    rts = dtr = cts = dsr = cd = True
    ri = break_condition = False


class Rfc2217Server:
    """Offers a pseudo-terminal by RFC 2217 (pyserial's own server half) to one client."""

    def __init__(self, path):
        self._path, self._stop = path, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def write(self, data):
        self._client.sendall(data)

    def _serve(self):
        self._client, _ = self._listener.accept()
        with self._client as client, _NoModemLines(self._path, timeout=0) as port:
            manager = serial.rfc2217.PortManager(port, self)
            while not self._stop.is_set():
                ready, _, _ = select.select([client, port], [], [], 0.02)
                if client in ready:
                    data = client.recv(1 << 16)
                    if not data:
                        return
                    port.write(b"".join(manager.filter(data)))
                if port in ready:
                    client.sendall(b"".join(manager.escape(port.read(4096))))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._listener.close()


# ---- an emulated bench, without programs --------------------------------------------------------


def source_lines_to(bench, inputs):
    """Put the switch of every source line on an input, outputs on, switches closed."""
    spec = bench.spec
    bits = np.zeros(2 * spec.rows, dtype=np.uint8)
    for row, code in enumerate(np.broadcast_to(inputs, spec.rows).tolist()):
        bits[spec.sl_bit0[row]], bits[spec.sl_bit1[row]] = code & 1, code >> 1
    bench.shift(bits)
    bench.oe = bench.enable = True


def set_codes(bench, channels, codes):
    """Put codes behind the latch of DAC channels, as frames and LDAC would."""
    for channel, code in zip(channels, np.broadcast_to(codes, len(channels)).tolist(), strict=True):
        bench.dacs[channel // 8].active[channel % 8] = int(code)


def bring_to_reading(bench, gate_v=3.3, tia_range=0):
    """Gates at a voltage, bit lines of 0 to 1.25 V at the virtual ground, SLs at amplifiers."""
    spec = bench.spec
    source_lines_to(bench, spec.sl_tia)
    bench.tia_range = tia_range
    for channel in spec.bl_channel:
        bench.dacs[channel // 8].gain = 0x0100
    for channel in spec.wl_channel:
        bench.dacs[channel // 8].gain = 0x00FF
    set_codes(bench, spec.bl_channel, bl_codes(spec, 0.0))
    set_codes(bench, spec.wl_channel, round(gate_v / 5 * 65536))
    return bench


def bl_codes(spec, volts):
    """Codes of the 1.25 V range nearest to voltages above the virtual ground."""
    above = np.asarray(volts) + spec.tia_bias_v
    return np.rint(above / 1.25 * 65536).astype(np.uint16)
