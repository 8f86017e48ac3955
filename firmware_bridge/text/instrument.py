"""The text dialect as an instrument: program messages in, answers out. No I/O of its own.

Commands live in `commands` and `array`; this executes messages: units one after another, up to the
first that goes wrong. A message stops there because what follows may build on it, and a
program that runs on a wrong table is no small matter here.
"""

from __future__ import annotations

from collections.abc import Callable

from firmware_bridge.errors import InputError, ReadOnlyError
from firmware_bridge.text import scpi
from firmware_bridge.text.array import COMMANDS
from firmware_bridge.text.board import Access, TextBoard
from firmware_bridge.text.commands import Client, Command
from firmware_bridge.text.status import ScpiError, Status

__all__ = ["COMMANDS", "MAX_ANSWER_BYTES", "Access", "TextSession"]

MAX_ANSWER_BYTES = 1 << 22
_BY_HEADER: dict[str, Command] = {
    header: item for item in COMMANDS for header in scpi.spellings(item.pattern)
}


class TextSession:
    """One text client of the bridge.

    Args:
        access: the registers, as this client may use them.
        stopped: asked while a command waits for a program: True ends the waiting, because the
            server stops or the client is gone.
    """

    def __init__(self, access: Access, stopped: Callable[[], bool] = lambda: False) -> None:
        self._client = Client(access, TextBoard(access, stopped))

    @property
    def status(self) -> Status:
        """Error queue and event registers."""
        return self._client.status

    def report(self, number: int, detail: str = "") -> None:
        """Queue an error that happened outside: a message too long (-363), a line cut off."""
        self.status.put(number, detail)

    def execute(self, message: bytes) -> bytes:
        """Execute one program message.

        Args:
            message: without its newline.

        Returns:
            The answers of its queries, joined by `;`, with a newline; b"" where there are none.
        """
        answers: list[bytes] = []
        size = 0
        path: tuple[str, ...] = ()
        self._client.answered = False
        for unit in scpi.split(message, ";"):
            try:
                path, answer = self._unit(unit, path)
                if answer is not None:
                    answers.append(answer)
                    size += len(answer) + 1
                    self._client.answered = True
                if size > MAX_ANSWER_BYTES:
                    answers.clear()
                    raise ScpiError(-430, f"answers of more than {MAX_ANSWER_BYTES} bytes")
            except ScpiError as error:
                self.status.put(error.number, error.detail)
                break
            except ReadOnlyError as error:
                self.status.put(-221, str(error))
                break
            except InputError as error:
                self.status.put(-220, str(error))
                break
            except Exception as error:  # a client far away must hear of it, whatever it is
                self.status.put(-310, f"{type(error).__name__}: {error}")
                break
        return b";".join(answers) + b"\n" if answers else b""

    def _unit(self, unit: bytes, path: tuple[str, ...]) -> tuple[tuple[str, ...], bytes | None]:
        if not unit.strip():
            return path, None
        sent, rest = scpi.header_of(unit)
        header, path = scpi.resolve(sent, path)
        found = _BY_HEADER.get(header)
        if found is None:
            raise ScpiError(-113, scpi.plain(sent.encode()))
        if not (found.open or self._client.access.authorised):
            raise ScpiError(-203, f"{found.pattern}: SYSTem:AUTH comes first")
        arguments = scpi.arguments(rest)
        if len(arguments) < found.least:
            raise ScpiError(-109, f"{found.pattern} {found.usage}")
        if len(arguments) > found.most:
            raise ScpiError(-108, f"{found.pattern} {found.usage}")
        return path, found.run(self._client, arguments)
