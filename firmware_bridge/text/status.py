"""Status of one text client: its error queue and the registers of IEEE 488.2."""

from __future__ import annotations

from collections import deque

from firmware_bridge.errors import RramError

QUEUE_ENTRIES = 32
MAX_ERROR_TEXT = 255  # characters, SCPI-99 21.8.1

# Standard numbers (SCPI-99 21.8). Hundreds: command, execution, device, query.
ERRORS: dict[int, str] = {
    0: "No error",
    -100: "Command error",
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -112: "Program mnemonic too long",
    -113: "Undefined header",
    -121: "Invalid character in number",
    -138: "Suffix not allowed",
    -141: "Invalid character data",
    -151: "Invalid string data",
    -161: "Invalid block data",
    -200: "Execution error",
    -203: "Command protected",
    -211: "Trigger ignored",
    -220: "Parameter error",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -240: "Hardware error",
    -310: "System error",
    -330: "Self-test failed",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -365: "Time out error",
    -410: "Query INTERRUPTED",
    -430: "Query DEADLOCKED",
}

# Bits of the standard event register, by the hundreds of an error.
_EVENT_OF = {1: 1 << 5, 2: 1 << 4, 3: 1 << 3, 4: 1 << 2}
EVENT_POWER_ON, EVENT_OPERATION_COMPLETE = 1 << 7, 1 << 0
STATUS_ERRORS, STATUS_MESSAGE, STATUS_EVENT, STATUS_SUMMARY = 1 << 2, 1 << 4, 1 << 5, 1 << 6


class ScpiError(RramError):
    """A command that was not done: a standard number and what is special about it.

    Attributes:
        number: see `ERRORS`.
        detail: for a person; may be empty.
    """

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(f"{number} {ERRORS[number]}" + (f": {detail}" if detail else ""))
        self.number, self.detail = number, detail


class Status:
    """Error queue and event registers.

    >>> status = Status()
    >>> status.put(-113, "FOO?")
    >>> status.take(), status.take(), status.event == 0xA0
    ('-113,"Undefined header; FOO?"', '0,"No error"', True)
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[int, str]] = deque()
        self.event = EVENT_POWER_ON
        self.event_enable = self.service_enable = 0

    def put(self, number: int, detail: str = "") -> None:
        """Queue an error and set its event bit; a full queue says so in its last entry."""
        self.event |= _EVENT_OF.get(-number // 100, 0)
        if len(self._queue) < QUEUE_ENTRIES:
            self._queue.append((number, detail))
        else:
            self._queue[-1] = (-350, "")

    def take(self) -> str:
        """The oldest error as SYSTem:ERRor? answers it, removed."""
        number, detail = self._queue.popleft() if self._queue else (0, "")
        text = ERRORS[number] + (f"; {detail}" if detail else "")
        printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
        return f'{number},"{printable[:MAX_ERROR_TEXT].replace(chr(34), chr(39))}"'

    def __len__(self) -> int:
        return len(self._queue)

    def clear(self) -> None:
        """*CLS: no errors, no events; masks stay."""
        self._queue.clear()
        self.event = 0

    def take_event(self) -> int:
        """*ESR?: the event register, which is then empty."""
        event, self.event = self.event, 0
        return event

    def byte(self, message: bool) -> int:
        """The status byte.

        Args:
            message: whether an answer waits to be read (MAV).
        """
        byte = STATUS_ERRORS * bool(self._queue) | STATUS_MESSAGE * message
        byte |= STATUS_EVENT * bool(self.event & self.event_enable)
        return byte | STATUS_SUMMARY * bool(byte & self.service_enable)
