"""Time every link to a board, beside the raw library on the same link in the same run.

The bridge and its raw rival are processes of their own, each in front of the same emulated board.
The rival moves the same words by the same library with 13 bytes of header, and nothing else: no
check sums, no sequence numbers, no second try. So the ratio is what exactly-once costs.

Examples:
    python bench_scripts/bench_links.py
    python bench_scripts/bench_links.py --link tcp --repeats 50 --json
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge import registers
from firmware_bridge.__main__ import open_board as open_window
from rram_host import open_board
from rram_host.transports import Transport, open_transport

URL = "sim://?preset=taox_180nm&seed=7"
PRODUCTS = 4096
WORDS = registers.TABLE.words // 2
_HEADER = struct.Struct("<BII")
_WRITE, _READ = 1, 2
_ACK = b"\x06"
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Row:
    """One figure of one link; `ratio` is over the raw rival, above 1 is better than it."""

    link: str
    what: str
    value: float
    unit: str
    raw: float | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the rival's; of times the other way round is what counts."""
        return None if self.raw is None else self.value / self.raw

    @property
    def met(self) -> str:
        """In words; empty without a limit."""
        if self.limit is None or self.ratio is None:
            return ""
        good = self.ratio <= self.limit if self.unit == "s" else self.ratio >= self.limit
        return "yes" if good else "no"


# ---- the raw rival ------------------------------------------------------------------------------


class RawTransport:
    """Words by bare calls of a library: what a quick script would do.

    Args:
        send: sends all bytes.
        receive: returns exactly so many bytes.
    """

    def __init__(self, send: Callable[[bytes], Any], receive: Callable[[int], bytes]) -> None:
        self._send, self._receive = send, receive

    def read(self, address: int, count: int) -> Words:
        """Read words."""
        self._send(_HEADER.pack(_READ, address, count))
        return np.frombuffer(self._receive(4 * count), dtype="<u4").astype(np.uint32)

    def write(self, address: int, words: Words) -> None:
        """Write words."""
        data = np.ascontiguousarray(words, dtype="<u4").tobytes()
        self._send(_HEADER.pack(_WRITE, address, len(data) // 4) + data)
        self._receive(1)

    def close(self) -> None:
        """Nothing to give back: the library's own object is closed by who opened it."""


def serve_raw(receive: Callable[[int], bytes], send: Callable[[bytes], Any]) -> None:
    """Answer a `RawTransport` until the line ends."""
    window = open_window(URL)
    while True:
        head = receive(_HEADER.size)
        if len(head) < _HEADER.size:
            return
        kind, address, count = _HEADER.unpack(head)
        if kind == _WRITE:
            window.write(address, np.frombuffer(receive(4 * count), "<u4").astype(np.uint32))
            send(_ACK)
        else:
            send(window.read(address, count).astype("<u4").tobytes())


def raw_tcp() -> None:
    """Serve one client on a port, which is printed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        client, _ = listener.accept()
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve_raw(lambda n: client.recv(n, socket.MSG_WAITALL), client.sendall)


def raw_pty() -> None:
    """Serve a pseudo-terminal, whose name is printed."""
    fd, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(fd, False)
    print(os.ttyname(slave), flush=True)
    kept = bytearray()

    def receive(count: int) -> bytes:
        while len(kept) < count:
            select.select([fd], [], [])
            kept.extend(os.read(fd, 1 << 16))
        data = bytes(kept[:count])
        del kept[:count]
        return data

    def send(data: bytes) -> None:
        left = memoryview(data)
        while left:
            select.select([], [fd], [])
            left = left[os.write(fd, left) :]

    serve_raw(receive, send)


# ---- processes ----------------------------------------------------------------------------------


@contextmanager
def closing_process(child: subprocess.Popen[str]) -> Iterator[None]:
    """Ends a process with what it was for."""
    try:
        yield
    finally:
        child.terminate()


@contextmanager
def process(*arguments: str, lines: int = 1) -> Iterator[list[str]]:
    """A process, with the first lines that it prints."""
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    with child, closing_process(child):
        yield [child.stdout.readline().strip() for _ in range(lines)] if child.stdout else []


@contextmanager
def bridge(*listeners: str) -> Iterator[str]:
    """The bridge in front of the emulated board; yields the URL that it offers."""
    arguments = ("-m", "firmware_bridge", "--board", URL, *listeners)
    with process(*arguments) as lines:
        yield lines[0].split()[1]


@contextmanager
def rival(kind: str) -> Iterator[str]:
    """The raw server; yields its port, or its terminal."""
    with process(__file__, "--raw-server", kind) as lines:
        yield lines[0]


# ---- links --------------------------------------------------------------------------------------


@contextmanager
def in_process() -> Iterator[tuple[Any, Any]]:
    """No link at all."""
    yield open_window(URL), None


@contextmanager
def tcp() -> Iterator[tuple[Any, Any]]:
    """Frames by pyserial's socket://, beside a plain socket."""
    with ExitStack() as stack:
        url = stack.enter_context(bridge("--tcp", "127.0.0.1:0"))
        port = stack.enter_context(rival("tcp"))
        raw = stack.enter_context(socket.create_connection(("127.0.0.1", int(port))))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield (
            open_transport(url),
            RawTransport(raw.sendall, lambda n: raw.recv(n, socket.MSG_WAITALL)),
        )


@contextmanager
def pty() -> Iterator[tuple[Any, Any]]:
    """Frames by pyserial on a pseudo-terminal, beside plain pyserial."""
    import serial

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(bridge("--pty", f"{folder}/board"))
        path = stack.enter_context(rival("pty"))
        raw = stack.enter_context(serial.Serial(path, 921600))
        yield open_transport(url), RawTransport(raw.write, raw.read)


@contextmanager
def visa_socket() -> Iterator[tuple[Any, Any]]:
    """Frames by PyVISA on a socket, beside plain PyVISA."""
    import pyvisa

    with ExitStack() as stack:
        url = stack.enter_context(bridge("--tcp", "127.0.0.1:0"))
        port = stack.enter_context(rival("tcp"))
        manager = pyvisa.ResourceManager("@py")
        stack.callback(manager.close)
        raw = stack.enter_context(manager.open_resource(f"TCPIP::127.0.0.1::{port}::SOCKET"))
        raw.timeout = 30_000
        host = url.rpartition(":")[2]
        yield (
            open_transport(f"visa://TCPIP::127.0.0.1::{host}::SOCKET"),
            RawTransport(raw.write_raw, lambda n: raw.read_bytes(n, chunk_size=n)),
        )


@contextmanager
def visa_hislip() -> Iterator[tuple[Any, Any]]:
    """Frames by PyVISA on HiSLIP, which has no raw rival: a HiSLIP server is never bare."""
    with bridge("--hislip", "127.0.0.1:0") as url:
        yield open_transport(url), None


LINKS: dict[str, Callable[[], Any]] = {
    "in process": in_process,
    "tcp": tcp,
    "pty": pty,
    "visa socket": visa_socket,
    "visa hislip": visa_hislip,
}
# What frames must reach of the raw library with batches of 4096 products.
LIMITS = {"tcp": 0.8, "pty": 0.8}


# ---- figures ------------------------------------------------------------------------------------


def both_s(works: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median times of pieces of work that take turns, in seconds, after one warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    for _ in range(repeats):
        for work, mine in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            mine.append(time.perf_counter() - start)
    return [float(np.median(mine)) for mine in times]


def round_trip(link: Transport, _: ExitStack) -> Callable[[], object]:
    """A hundred reads of one register."""
    address = registers.offset("STATUS")
    return lambda: [link.read(address, 1) for _ in range(100)]


def bulk(link: Transport, _: ExitStack) -> Callable[[], object]:
    """Half of the input table there, half of the results back."""
    words = np.random.default_rng(0).integers(0, 1 << 32, WORDS, dtype=np.uint32)

    def work() -> None:
        link.write(registers.TABLE.offset, words)
        link.read(registers.RESULTS.offset, WORDS)

    return work


def products(link: Transport, stack: ExitStack) -> Callable[[], object]:
    """`board.array.vmm` of 4096 vectors on formed cells, another batch each time."""
    board = stack.enter_context(open_board(link))
    board.array.form()
    rng = np.random.default_rng(1)
    batches = [rng.uniform(-0.1, 0.1, (PRODUCTS, board.array.shape[1])) for _ in range(4)]
    turn = iter(range(1 << 30))
    return lambda: board.array.vmm(batches[next(turn) % 4])


def figures(name: str, repeats: int) -> Iterator[Row]:
    """All figures of one link."""
    for what, count, work, limit in (
        ("round trips", 100, round_trip, None),
        ("words", 2 * WORDS, bulk, None),
        ("products", PRODUCTS, products, LIMITS.get(name)),
    ):
        with LINKS[name]() as (link, raw), ExitStack() as stack:
            stack.callback(link.close)
            links = [link] if raw is None else [link, raw]
            times = both_s([work(each, stack) for each in links], repeats)
            per_s = [count / taken_s for taken_s in times]
            yield Row(name, what, per_s[0], "1/s", per_s[1] if raw else None, limit)


def warm_up(target: str) -> None:
    """Let everything that is compiled be loaded, here and behind the link."""
    with open_board(target) as board:
        cells = np.zeros(board.array.shape, dtype=bool)
        cells[0, 0] = True
        board.array.form(cells)
        board.array.read()
        board.array.vmm(np.zeros((PRODUCTS, board.array.shape[1])))


def main_job(repeats: int) -> Iterator[Row]:
    """The main job, `rram demo`, over TCP and in process: wall time."""
    from rram_host.experiments import demo
    from rram_host.experiments.steps import Silent
    from rram_host.records.run_folder import RunFolder

    def job(target: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with RunFolder(Path(folder) / "run", "demo", {}) as run:
                demo.run(target, demo.DemoPlan(), Silent(), run)
            return time.perf_counter() - start

    warm_up(URL)
    job(URL)
    times = []
    for _ in range(repeats):  # a new bridge each time: its board must be as fresh as ours
        with bridge("--tcp", "127.0.0.1:0") as there:
            warm_up(there)
            times.append([job(there), job(URL)])
    there_s, here_s = np.median(times, axis=0).tolist()
    yield Row("tcp", "main job", there_s, "s", here_s, 1.2)


# ---- printing -----------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """Rows for people."""
    lines = [f"{'link':<12} {'what':<12} {'here':>12} {'raw':>12} {'ratio':>6} {'limit':>6}  met"]
    for row in rows:
        raw = f"{row.raw:12.4g}" if row.raw is not None else " " * 12
        ratio = f"{row.ratio:6.2f}" if row.ratio is not None else " " * 6
        limit = f"{row.limit:6.2f}" if row.limit is not None else " " * 6
        lines.append(
            f"{row.link:<12} {row.what:<12} {row.value:12.4g} {raw} {ratio} {limit}  {row.met}"
        )
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--link", action="append", choices=list(LINKS), help="only these")
    parser.add_argument("--repeats", type=int, default=30, help="of every figure (default 30)")
    parser.add_argument("--jobs", type=int, default=1, help="runs of the main job (default 1)")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--raw-server", choices=["tcp", "pty"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.raw_server:
        {"tcp": raw_tcp, "pty": raw_pty}[options.raw_server]()
        return
    rows = [row for name in options.link or LINKS for row in figures(name, options.repeats)]
    if options.jobs and not options.link:
        rows += main_job(options.jobs)
    if options.json:
        found = [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in rows]
        print(json.dumps({"load": os.getloadavg()[0], "rows": found}, indent=2))
    else:
        print(table(rows))
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
