"""Stand-ins: a window that is only memory, remote serial ports, lines with anything behind them."""

import contextlib
import os
import select
import socket
import threading
import tty

import numpy as np
import serial
import serial.rfc2217

from firmware_bridge import registers
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
        gone = contextlib.suppress(OSError)  # of either side
        with gone, self._client as client, _NoModemLines(self._path, timeout=0) as port:
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


class Plug:
    """One end of a byte stream that a host opens: a terminal (`path`) or a TCP port (`port`).

    A context manager; `serve(fd)` runs in a thread as soon as a host is there, until `stop` is set.
    """

    def __init__(self, terminal):
        self.stop, self._terminal = threading.Event(), terminal
        self.port = self.path = None
        self._thread = threading.Thread(target=self._run)

    def serve(self, fd):
        raise NotImplementedError

    def __enter__(self):
        if self._terminal:
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            self.path = os.ttyname(self._slave)
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self._listener.settimeout(5)
            self.port = self._listener.getsockname()[1]
        self._thread.start()
        return self

    def _run(self):
        if self._terminal:
            os.set_blocking(self._master, False)
            self.serve(self._master)
            return
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client:
                client.setblocking(False)
                self.serve(client.fileno())

    def __exit__(self, *_):
        self.stop.set()
        self._thread.join()
        if self._terminal:
            os.close(self._master)
            os.close(self._slave)
        else:
            self._listener.close()


def send_all(fd, data, stop):
    """Send what the other side takes, until it is all taken, or it hangs up, or `stop` is set."""
    while data and not stop.is_set():
        _, ready, _ = select.select([], [fd], [], 0.02)
        try:
            data = data[os.write(fd, data) :] if ready else data
        except BlockingIOError:
            continue
        except OSError:
            return


def receive(fd, wait_s=0.02):
    """What is there; b"" for nothing, None at the end."""
    ready, _, _ = select.select([fd], [], [], wait_s)
    try:
        return os.read(fd, 1 << 16) or None if ready else b""
    except BlockingIOError:
        return b""
    except OSError:
        return None


class Relay(Plug):
    """Carries bytes to a bridge's TCP port; the host's side survives the bridge."""

    def __init__(self, terminal, bridge_port):
        super().__init__(terminal)
        self._bridge = socket.create_connection(("127.0.0.1", bridge_port))

    def connect(self, bridge_port):
        """Go on with another bridge, as after a restart."""
        before, self._bridge = (
            self._bridge,
            socket.create_connection(("127.0.0.1", bridge_port)),
        )
        before.close()

    def serve(self, fd):
        while not self.stop.is_set():
            data = receive(fd)
            if data is None:
                return
            with contextlib.suppress(OSError, ValueError):  # between two bridges
                if data:
                    self._bridge.sendall(data)
                ready, _, _ = select.select([self._bridge], [], [], 0.005)
                if ready:
                    send_all(fd, self._bridge.recv(1 << 16), self.stop)

    def __exit__(self, *_):
        super().__exit__()
        self._bridge.close()


class Babbler(Plug):
    """Says the next of `words` again and again, whatever is asked, and `pause_s` between them.

    Args:
        terminal: a terminal, or a TCP port.
        says: function of all that was heard -> bytes to say.
        pause_s: between two words.
    """

    def __init__(self, terminal, says, pause_s=0.0):
        super().__init__(terminal)
        self._says, self._pause_s = says, pause_s

    def serve(self, fd):
        heard = b""
        while not self.stop.wait(self._pause_s):
            data = receive(fd, 0.0)
            if data is None:
                return
            heard = (heard + data)[-1 << 16 :]
            send_all(fd, self._says(heard), self.stop)


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
