"""The bridge as a command: `rram-bridge`, or `python -m firmware_bridge`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import entry_points
from typing import Protocol

from firmware_bridge import board_spec, registers
from firmware_bridge.agent import Agent
from firmware_bridge.auth import load_key, make_key
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.contract import contract_hash
from firmware_bridge.doors import Doors
from firmware_bridge.errors import ContractError, InputError, RramError
from firmware_bridge.recording import Recorder
from firmware_bridge.windows import Window, open_mmio

BOARDS_GROUP = "rram.boards"
_LOOK_S = 0.1  # how soon the bridge notices that it shall end
_EXAMPLES = """\
examples:
  an emulated board, for a host on this machine by any of three ways:
    rram-bridge --board 'sim://?seed=7' --tcp 127.0.0.1:5025 --hislip 4880 --pty ./rram0
  on the ZC706, over its serial port (without PYNQ: ?via=devmem):
    rram-bridge --board 'mmio://0x43C00000?via=devmem' --serial /dev/ttyPS0:921600
  for other machines, which must hold the key (read README.md on what that protects from):
    rram-bridge --make-key bridge.key
    rram-bridge --board mmio://0x43C00000 --tcp 0.0.0.0:5025 --key-file bridge.key
"""
_LISTENERS = (
    ("--tcp", "HOST:PORT", "listen on a port, e.g. 127.0.0.1:5025"),
    ("--hislip", "[HOST:]PORT", "the same for VISA's HiSLIP, e.g. 4880"),
    ("--pty", "PATH", "make a pseudo-terminal and a link to it at PATH"),
    ("--serial", "DEVICE[:BAUD]", "serve a serial port; 921600 baud if nothing is said"),
)
_log = logging.getLogger("firmware_bridge")


class Board(Window, Protocol):
    """A window that can be given back."""

    def close(self) -> None:
        """Give it back; an emulated board saves its state."""
        ...


def open_board(url: str) -> Board:
    """Open mmio:// on this machine, or any board that an installed package offers by URL scheme.

    Raises:
        InputError: unknown scheme, or the board refuses the URL.
        RramError: the board cannot be opened.
    """
    scheme = url.partition("://")[0]
    openers: dict[str, Callable[[], Callable[[str], Board]]] = {
        point.name: point.load for point in entry_points(group=BOARDS_GROUP)
    }
    openers["mmio"] = lambda: open_mmio
    if "://" not in url or scheme not in openers:
        known = ", ".join(f"{name}://" for name in sorted(openers))
        raise InputError(f"--board {url}: not a board of this bridge; known: {known}")
    return openers[scheme]()(url)


def check_board(window: Window, url: str, spec: BoardSpec) -> None:
    """Refuse a window without our board behind it, or with another one than the board file's.

    Raises:
        ContractError: identity, contract or geometry is another.
    """
    ident, contract, _, geometry = window.read(registers.offset("IDENT"), 4).tolist()
    if ident != registers.IDENTITY:
        raise ContractError(
            f"--board {url}: identity word is {ident:#010x}, not {registers.IDENTITY:#010x}: no "
            "RRAM board there, or its bitstream is not loaded"
        )
    if contract != contract_hash():
        raise ContractError(
            f"--board {url}: the board speaks contract {contract:#010x}, this bridge "
            f"{contract_hash():#010x}: gateware and bridge are of different versions"
        )
    if geometry != spec.rows << 16 | spec.cols:
        raise ContractError(
            f"--board {url}: the board has {geometry >> 16} x {geometry & 0xFFFF} cells, --spec "
            f"{spec.name} says {spec.rows} x {spec.cols}"
        )


# ---- command line ---------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rram-bridge",
        description="Serve the register window of a board, in frames and in text (SCPI), on any "
        "number of ports, lines and terminals at once. One client writes at a time; all may read.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--board",
        metavar="URL",
        help="mmio://0x43C00000[?via=devmem] on a board, sim://?seed=7 for an emulated one",
    )
    for option, metavar, text in _LISTENERS:
        parser.add_argument(option, metavar=metavar, action="append", default=[], help=text)
    parser.add_argument(
        "--key-file", metavar="FILE", help="clients must prove to hold this key (host: key=FILE)"
    )
    parser.add_argument("--make-key", metavar="FILE", help="write a fresh key, and do no more")
    parser.add_argument(
        "--record", metavar="FILE", help="write every register access to a new file, as JSONL"
    )
    parser.add_argument(
        "--spec", metavar="NAME", default="zc706", help="board file: a name in boards/, or a path"
    )
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("--verbose", action="store_true", help="say on stderr who comes and goes")
    talk.add_argument("--quiet", action="store_true", help="say nothing but errors")
    return parser


def serve(options: argparse.Namespace, ended: Callable[[], bool]) -> None:
    """Open a board and serve it until `ended()`; then make it safe and close it.

    Raises:
        InputError: one of the arguments is wrong, or what is to be listened on is taken.
        RramError: the board cannot be opened, or is another.
    """
    if not options.board:
        raise InputError("no board: give --board URL, e.g. --board 'sim://?seed=7'")
    key = load_key(options.key_file) if options.key_file else None
    doors = Doors(options.pty, options.serial, options.tcp, options.hislip, key)
    doors.check()
    spec = board_spec.load(options.spec)
    with ExitStack() as stack:
        board = open_board(options.board)
        stack.callback(board.close)
        check_board(board, options.board, spec)
        window: Window = board
        if options.record:
            window = recorder = Recorder(board, options.record, options.board, spec.name)
            stack.pop_all()
            stack.callback(recorder.close)  # and with it the board
        agent = Agent(window, spec=spec)
        stack.callback(agent.make_safe, "the bridge ends")
        urls = stack.enter_context(doors.opened(agent))
        for place in doors.beyond_loopback:
            _log.warning(
                "%s is reachable from other machines: clients must hold the key, but what they "
                "send is neither encrypted nor signed; on a network you do not trust, use ssh",
                place,
            )
        for url in urls:
            print(f"ready: {url}", flush=True)
        while not ended():
            time.sleep(_LOOK_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bridge until Ctrl-C, SIGTERM or SIGHUP; returns the exit code."""
    options = _parser().parse_args(argv)
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(
        level=logging.ERROR if options.quiet else level,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    ends = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        ends.append(signal.SIGHUP)  # an ssh session that drops takes the bridge with it
    for number in ends:
        signal.signal(number, lambda *_: ends.clear())
    try:
        if options.make_key:
            make_key(options.make_key)
        else:
            serve(options, lambda: not ends)
    except RramError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
