"""Making a board safe when everything else hangs: one write, and what the registers say then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from firmware_bridge import board_spec, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.contract import contract_hash
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import Fault
from firmware_bridge.opening import SAFE_ENTRY, register
from rram_host.errors import BoardFault, ContractError, LinkError
from rram_host.transports import open_transport
from rram_host.transports.base import Transport

TIMEOUT_S = 3.0  # of a link; a safe program takes some 20 us
_TAKES_TIMEOUT = ("serial", "socket", "visa")
_PAUSE_S = 0.01


@dataclass(frozen=True)
class Rails:
    """What the registers say behind the safe program.

    Attributes:
        busy: a program still runs.
        live: a program runs, a DAC output is above zero, or switches are on that the safe program
            has not left on.
        fault: latched fault of the program that ran before, or of the safe program; 0 for none.
        loaded: the board had no safe program, and got one.
        same_contract: whether host and board are of one version.
    """

    busy: bool
    live: bool
    fault: int
    loaded: bool
    same_contract: bool

    @property
    def safe(self) -> bool:
        """Whether nothing runs and no rail is up."""
        return not self.busy and not self.live

    def __str__(self) -> str:
        """In words."""
        if self.safe and not self.same_contract:
            text = "nothing runs; whether rails are up cannot be known"
        elif self.safe:
            text = "rails are safe: gates closed, bit lines at zero, source lines at ground or open"
        else:
            text = "a program still runs" if self.busy else "rails are still up"
        if self.loaded:
            text += "; the board had no safe program and was given one"
        if self.fault:
            name = Fault(self.fault).name if self.fault in list(Fault) else f"{self.fault}"
            text += f"; a program was stopped by {name}"
        return text if self.same_contract else f"{text}; the board is of another version than this"


def make_safe(
    target: str | Transport, spec: BoardSpec | None = None, timeout_s: float = TIMEOUT_S
) -> Rails:
    """Stop whatever runs and make the rails safe, whoever else has the board.

    Nothing is asked of the board but that it is one: a latched fault, a program that runs, another
    client that writes, and another version of the contract are no reason not to.

    Args:
        target: URL, or a Transport, which is left open.
        spec: how the board is wired, for one that has no safe program; default zc706.
        timeout_s: how long the link, and then the safe program, may take.

    Raises:
        LinkError: the board cannot be reached.
        ContractError: what answers is no such board; or it has no safe program and is of another
            version, so that none can be given to it.
        BoardFault: it has no safe program, and another client keeps this one from giving it one.
    """
    if not isinstance(target, str):
        return _made_safe(target, spec or board_spec.load(), timeout_s)
    link = open_transport(_patient_for(target, timeout_s))
    try:
        return _made_safe(link, spec or board_spec.load(), timeout_s)
    finally:
        link.close()


def _patient_for(url: str, timeout_s: float) -> str:
    """The URL with a time-out, where its link takes one and it has none."""
    parts = urlsplit(url)
    if parts.scheme not in _TAKES_TIMEOUT or "timeout=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}timeout={timeout_s:g}"


def _made_safe(link: Transport, spec: BoardSpec, timeout_s: float) -> Rails:
    ident, found = link.read(registers.offset("IDENT"), 2).tolist()
    if ident != registers.IDENTITY:
        raise ContractError(
            f"identity word is {ident:#010x}, not {registers.IDENTITY:#010x}: no RRAM board"
        )
    same = found == contract_hash()
    loaded = not int(link.read(registers.offset("SAFE_ENTRY"), 1)[0])
    if loaded:
        _load(link, spec, same)
    link.write(*register("CTRL", registers.CTRL_SAFE))
    status, code = _wait(link, timeout_s)
    live = bool(status & registers.STATUS_LIVE) if same else False
    return Rails(bool(status & registers.STATUS_BUSY), live, code, loaded, same)


def _load(link: Transport, spec: BoardSpec, same: bool) -> None:
    """Give the board a safe program: SAFE would start whatever lies at word 0.

    Nobody has opened it since power-up, so its converters are reset first: their outputs do not
    wait for a trigger yet.
    """
    if not same:
        raise ContractError("the board has no safe program, and is of another version than this")
    program = LineProgram(spec)
    program.initialise()
    program.make_safe()
    try:
        link.write(registers.PROGRAM.offset + 4 * SAFE_ENTRY, program.words())
        link.write(*register("SAFE_ENTRY", SAFE_ENTRY))
    except LinkError as error:  # the bridge lets another client write
        raise BoardFault(f"the board has no safe program, and takes none: {error}") from None


def _wait(link: Transport, timeout_s: float) -> tuple[int, int]:
    """STATUS and FAULT_CODE once nothing runs any more, or when time is up."""
    until = time.monotonic() + timeout_s
    while True:
        status, code = np.asarray(link.read(registers.offset("STATUS"), 2)).tolist()
        if not status & registers.STATUS_BUSY or time.monotonic() > until:
            return int(status), int(code)
        time.sleep(_PAUSE_S)
