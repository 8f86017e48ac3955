"""Let the board's watchdog trip once, on purpose: lines are raised, and then nobody says a word.

Through the bridge's text dialect a program raises all bit lines to their rest voltage and all gates
to that of reads, and holds them for a minute. Nothing is written after that, so the watchdog has to
stop the program and lower the lines. FOR A BOARD WITHOUT A CHIP: gates are open all that time.

Exit code 0: it tripped, in its time, and the lines are down; 1: it did not, and SAFE was sent.

Example: python bench_scripts/watchdog_drill.py socket://127.0.0.1:5025
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import serial

from firmware_bridge import board_spec, registers
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import CLOCK_HZ, Op
from firmware_bridge.text import scpi

HOLD_S = 60
LATEST = 2.0  # in watchdog times: the link and a slow machine take their part


class Line:
    """One line of text out, one in."""

    def __init__(self, url: str) -> None:
        self._serial = serial.serial_for_url(url, timeout=10)

    def ask(self, message: bytes) -> str:
        """The answer to a query; an error of the bridge ends the drill."""
        self._serial.write(message + b"\n")
        answer: str = self._serial.readline().decode().strip()
        if not answer:
            self._serial.write(b"SYST:ERR?\n")
            sys.exit(f"no answer to {message[:40]!r}: {self._serial.readline().decode().strip()}")
        return answer

    def register(self, name: str) -> int:
        """A register; reading does not restart the watchdog."""
        return int(self.ask(f"REG? {name}".encode()))


def raised(spec: board_spec.BoardSpec) -> bytes:
    """A program that raises all lines and holds them, as bytes."""
    program = LineProgram(spec)
    program.open_for_reads(np.arange(spec.rows), 0)
    with program.loop(HOLD_S):
        program.add(Op.WAIT, value=CLOCK_HZ)
    return program.words().astype("<u4").tobytes()


def drill(line: Line, spec: board_spec.BoardSpec) -> bool:
    """Whether the watchdog did what it is there for."""
    line.ask(b"*RST;*OPC?")
    allowed_s = line.register("WATCHDOG") / CLOCK_HZ
    before = line.register("WATCHDOG_TRIPS")
    line.ask(b"PROG:LOAD " + scpi.block(raised(spec)) + b";*IDN?")
    line.ask(b"PROG:RUN;*IDN?")
    begun_s = time.monotonic()
    print(
        f"bit lines at {spec.tia_bias_v:g} V, gates at {spec.wl_read_v:g} V, watchdog {allowed_s} s"
    )
    while line.register("STATUS") & registers.STATUS_BUSY:
        if time.monotonic() - begun_s > max(LATEST * allowed_s, allowed_s + 1):
            break
        time.sleep(0.02)
    took_s = time.monotonic() - begun_s
    trips = line.register("WATCHDOG_TRIPS") - before
    live = bool(line.register("STATUS") & registers.STATUS_LIVE)
    told = "lines still up: SAFE was sent" if live else "lines down"
    print(f"tripped {trips} time(s), after {took_s:.1f} s, {told}: {line.ask(b'PROG:STAT?')}")
    if live:
        line.ask(b"SAFE;*IDN?")
    return trips == 1 and not live


def main() -> None:
    """Command line of the drill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="socket://HOST:PORT or a serial port, of the bridge")
    parser.add_argument("--spec", default="zc706", help="board file")
    options = parser.parse_args()
    done = drill(Line(options.url), board_spec.load(options.spec))
    sys.exit(0 if done else 1)


if __name__ == "__main__":
    main()
