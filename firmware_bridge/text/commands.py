"""Commands of the text dialect: the registry, and those of IEEE 488.2, SYSTem and FORMat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from firmware_bridge import dac_check, registers
from firmware_bridge.contract import contract_hash
from firmware_bridge.text import scpi
from firmware_bridge.text.board import Access, TextBoard
from firmware_bridge.text.scpi import Argument, Sort
from firmware_bridge.text.status import EVENT_OPERATION_COMPLETE, ScpiError, Status

Words = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.uint16]
SCPI_VERSION = "1999.0"
TEST_WORDS = (0x5555_5555, 0xAAAA_AAAA, 0x0000_0000, 0xFFFF_FFFF)
TEST_IDENTITY, TEST_CONTRACT, TEST_GEOMETRY, TEST_SCRATCH, TEST_DACS = 1, 2, 4, 8, 16


@dataclass
class Client:
    """What the bridge keeps of one text client.

    Attributes:
        access: its access to the registers.
        board: the board behind it.
        status: error queue and event registers.
        crc: whether blocks carry a CRC-32.
        program: words to be run, empty before PROGram:LOAD.
        table: input codes of it.
        started: whether a program of this client's was started whose end it has not seen.
        fault: text of the fault that stopped its last program; empty where none did.
        wants_event: *OPC was asked for.
        answered: whether a unit of the message at hand has answered already.
    """

    access: Access
    board: TextBoard
    status: Status = field(default_factory=Status)
    crc: bool = False
    program: Words = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))
    table: Codes = field(default_factory=lambda: np.zeros(0, dtype=np.uint16))
    started: bool = False
    fault: str = ""
    wants_event: bool = False
    answered: bool = False

    def block(self, data: bytes) -> bytes:
        """A block as this client wants it."""
        return scpi.block(data, self.crc)

    def settle(self, wait: bool) -> str:
        """What the board does now; a fault of this client's program is told once.

        Args:
            wait: until it has ended.

        Returns:
            IDLE, RUNNING, DONE or FAULT.

        Raises:
            ScpiError: the waiting was broken off.
        """
        state = self.board.wait(self.started) if wait else self.board.state()
        if state.name == "RUNNING":
            if self.started:
                self.board.kick()
            return state.name
        if self.started and state.name == "FAULT":
            self.fault = self.board.fault(state)
            self.status.put(-240, self.fault)
        self.started = False
        if self.wants_event:
            self.wants_event = False
            self.status.event |= EVENT_OPERATION_COMPLETE
        return "FAULT" if self.fault else state.name


Run: TypeAlias = Callable[[Client, "list[Argument]"], "bytes | None"]


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        pattern: header, capitals are the short form.
        usage: arguments.
        about: what it does, for the table in the README.
        least, most: how many arguments it takes.
        run: does it; what it returns is the answer.
        open: whether a client without the key may give it.
    """

    pattern: str
    usage: str
    about: str
    least: int
    most: int
    run: Run
    open: bool = False


COMMANDS: list[Command] = []


def command(
    pattern: str, usage: str, about: str, least: int = 0, most: int = 0, unlocked: bool = False
) -> Callable[[Run], Run]:
    """Put a function into the registry."""

    def put(run: Run) -> Run:
        COMMANDS.append(Command(pattern, usage, about, least, most, run, unlocked))
        return run

    return put


# ---- arguments ------------------------------------------------------------------------------


def whole(argument: Argument, low: int, high: int, name: str) -> int:
    """A whole number within bounds.

    Raises:
        ScpiError: no number, not whole, or outside.
    """
    if argument.sort is not Sort.NUMBER:
        raise ScpiError(-104, f"{name} is a number, not a {argument.sort.value}")
    value = argument.number
    if not low <= value <= high or value != int(value):
        raise ScpiError(-222, f"{name} {argument.text} is outside {low}..{high}")
    return int(value)


def data_of(client: Client, argument: Argument, item_bytes: int, most: int, name: str) -> bytes:
    """The bytes of a block of numbers.

    Raises:
        ScpiError: no block, a wrong CRC, half a number, or too many.
    """
    if argument.sort is not Sort.BLOCK:
        raise ScpiError(-104, f"{name}: expected a block, not a {argument.sort.value}")
    data = scpi.unpack(argument.data, client.crc)
    if len(data) % item_bytes:
        raise ScpiError(-161, f"{name}: {len(data)} bytes are not {item_bytes} each")
    if len(data) > most * item_bytes:
        raise ScpiError(-223, f"{name}: {len(data) // item_bytes}; the limit is {most}")
    return data


def number(value: int) -> bytes:
    """A whole number as an answer."""
    return str(value).encode()


# ---- IEEE 488.2 -----------------------------------------------------------------------------


@command("*IDN?", "", "maker, board and array, serial number, version", unlocked=True)
def _identity(client: Client, _: list[Argument]) -> bytes:
    return scpi.plain(client.access.identity.encode("ascii", "replace")).encode()


@command("*RST", "", "rails safe, fault cleared, limits set, every part at rest; CRC off")
def _reset(client: Client, _: list[Argument]) -> None:
    client.board.safe()
    client.board.wait(started=False)
    client.crc = client.started = client.wants_event = False
    client.fault, client.program, client.table = "", client.program[:0], client.table[:0]
    client.board.set_up()


@command("*CLS", "", "empty the error queue and the event register")
def _clear(client: Client, _: list[Argument]) -> None:
    client.status.clear()
    client.wants_event = False


@command("*OPC", "", "set bit 0 of the event register when no program runs any more")
def _complete(client: Client, _: list[Argument]) -> None:
    client.wants_event = True
    client.settle(wait=False)


@command("*OPC?", "", "1, when no program runs any more")
def _is_complete(client: Client, _: list[Argument]) -> bytes:
    client.settle(wait=True)
    return b"1"


@command("*WAI", "", "wait until no program runs any more")
def _wait(client: Client, _: list[Argument]) -> None:
    client.settle(wait=True)


@command(
    "*TST?", "", "self-test: 0, or a sum of 1 identity, 2 contract, 4 geometry, 8 scratch, 16 DACs"
)
def _test(client: Client, _: list[Argument]) -> bytes:
    found = _identity_faults(client) + _scratch_faults(client) + _dac_faults(client)
    for _bit, text in found:
        client.status.put(-330, text)
    return number(sum({bit for bit, _text in found}))


@command("*ESR?", "", "the event register, which is emptied")
def _event(client: Client, _: list[Argument]) -> bytes:
    if client.wants_event:
        client.settle(wait=False)
    return number(client.status.take_event())


@command("*ESE", "<0..255>", "events that bit 5 of the status byte sums up", 1, 1)
def _enable_events(client: Client, arguments: list[Argument]) -> None:
    client.status.event_enable = whole(arguments[0], 0, 255, "*ESE")


@command("*ESE?", "", "that mask")
def _enabled_events(client: Client, _: list[Argument]) -> bytes:
    return number(client.status.event_enable)


@command("*SRE", "<0..255>", "bits of the status byte that its bit 6 sums up", 1, 1)
def _enable_service(client: Client, arguments: list[Argument]) -> None:
    client.status.service_enable = whole(arguments[0], 0, 255, "*SRE") & ~(1 << 6)


@command("*SRE?", "", "that mask")
def _enabled_service(client: Client, _: list[Argument]) -> bytes:
    return number(client.status.service_enable)


@command("*STB?", "", "the status byte: 4 errors, 16 answer waits, 32 events, 64 summary")
def _status_byte(client: Client, _: list[Argument]) -> bytes:
    return number(client.status.byte(message=client.answered))


# ---- SYSTem, FORMat -------------------------------------------------------------------------


@command("SYSTem:ERRor[:NEXT]?", "", "the oldest error, removed", unlocked=True)
def _error(client: Client, _: list[Argument]) -> bytes:
    return client.status.take().encode()


@command("SYSTem:ERRor:COUNt?", "", "how many errors wait")
def _errors(client: Client, _: list[Argument]) -> bytes:
    return number(len(client.status))


@command("SYSTem:VERSion?", "", f"the SCPI that this follows, {SCPI_VERSION}")
def _version(client: Client, _: list[Argument]) -> bytes:
    return SCPI_VERSION.encode()


@command("SYSTem:HELP?", "", "all commands, as strings")
def _help(client: Client, _: list[Argument]) -> bytes:
    lines = (f"{item.pattern} {item.usage}".rstrip() for item in COMMANDS)
    return ",".join(f'"{line}"' for line in lines).encode()


@command("SYSTem:AUTH?", "", "a fresh nonce, in hex", unlocked=True)
def _challenge(client: Client, _: list[Argument]) -> bytes:
    return client.access.challenge().encode()


@command(
    "SYSTem:AUTH",
    "<hex>",
    'HMAC-SHA256(key, "text" + nonce), in hex',
    1,
    1,
    unlocked=True,
)
def _authorise(client: Client, arguments: list[Argument]) -> None:
    if arguments[0].sort not in (Sort.STRING, Sort.NAME, Sort.NUMBER):
        raise ScpiError(-104, "a digest is hex digits")
    if not client.access.authorise(arguments[0].text):
        raise ScpiError(-203, "the digest does not fit key and last nonce; ask for a new nonce")


@command(
    "FORMat:CRC", "<ON|OFF>", "a CRC-32, little-endian, at the end of the data of all blocks", 1, 1
)
def _set_crc(client: Client, arguments: list[Argument]) -> None:
    ways = {"ON": True, "1": True, "OFF": False, "0": False}
    text = arguments[0].text.upper()
    if text not in ways:
        raise ScpiError(-141, f"FORMat:CRC {scpi.plain(text.encode())}: ON or OFF")
    client.crc = ways[text]


@command("FORMat:CRC?", "", "1 or 0")
def _get_crc(client: Client, _: list[Argument]) -> bytes:
    return number(int(client.crc))


# ---- self-test ------------------------------------------------------------------------------


def _identity_faults(client: Client) -> list[tuple[int, str]]:
    spec = client.board.spec
    ident, contract, _, geometry, converters = client.board.read(0, 5).tolist()
    found = []
    if ident != registers.IDENTITY:
        found.append((TEST_IDENTITY, f"identity {ident:#010x}, not {registers.IDENTITY:#010x}"))
    if contract != contract_hash():
        found.append((TEST_CONTRACT, f"contract {contract:#010x}, not {contract_hash():#010x}"))
    wanted = (spec.rows << 16 | spec.cols, spec.dac_chips << 16 | spec.adcs)
    if (geometry, converters) != wanted:
        text = f"geometry {geometry:#x}, {converters:#x}, not {wanted[0]:#x}, {wanted[1]:#x}"
        found.append((TEST_GEOMETRY, text))
    return found


def _scratch_faults(client: Client) -> list[tuple[int, str]]:
    kept, found = client.board.register("SCRATCH"), []
    for word in TEST_WORDS:
        client.board.set_register("SCRATCH", word)
        seen = client.board.register("SCRATCH")
        if seen != word:
            found.append((TEST_SCRATCH, f"SCRATCH holds {seen:#010x}, {word:#010x} was written"))
    client.board.set_register("SCRATCH", kept)
    return found


def _dac_faults(client: Client) -> list[tuple[int, str]]:
    spec = client.board.spec
    nothing = np.zeros(0, dtype=np.uint16)
    words = client.board.run(dac_check.readback_program(spec), nothing, dac_check.n_results(spec))
    return [
        (TEST_DACS, f"DAC chip {chip}: {text}")
        for chip, texts in sorted(dac_check.faults_in(words, spec).items())
        for text in texts
    ]
