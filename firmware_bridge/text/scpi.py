"""The text dialect as a grammar: bytes <-> messages, headers, arguments, blocks. No I/O.

A program message ends with a newline and holds units between `;`, each a header (`SYSTem:ERRor?`,
capitals are the short form) and arguments between `,`: numbers, names, strings, and definite-length
blocks `#<n><digits><bytes>`, whose bytes may be anything, newlines too (IEEE 488.2, SCPI-99).
"""

from __future__ import annotations

import contextlib
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from firmware_bridge.errors import InputError
from firmware_bridge.text.status import ScpiError

MAX_MESSAGE_BYTES = (1 << 20) + (1 << 12)  # 8192 vectors of 32 float32, and the words around them
MAX_ARGUMENTS = 16
MAX_MNEMONIC = 12
CRC_BYTES = 4
_SPACE = bytes(code for code in range(33) if code != 10)  # white space of IEEE 488.2
_BEFORE_BLOCK = _SPACE + b","
_SPLITS = {stop: re.compile(rb"[\"'#" + bytes((stop,)) + b"]") for stop in b"\n;,"}
_HEADER = re.compile(rb"\*?[A-Za-z]\w*\??|:?[A-Za-z]\w*(?::[A-Za-z]\w*)*\??", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(\s*[Ee]\s*[+-]?\d+)?", re.ASCII)
_SUFFIX = re.compile(r"\s*[A-Za-z/.\d%]+", re.ASCII)
_BASES = {"H": 16, "Q": 8, "B": 2}


# ---- finding borders ------------------------------------------------------------------------


class _More(Exception):
    """A block begins here whose end has not come; how many bytes must come at least."""

    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.missing = missing


def _block_end(data: bytes | bytearray, at: int) -> int | None:
    """End of the definite-length block that begins at `at`, or None where none begins.

    Raises:
        _More: the rest of it is missing.
        InputError: it is longer than any message.
    """
    if len(data) < at + 2:
        raise _More(1)
    digits = data[at + 1] - ord("0")
    if not 1 <= digits <= 9:
        return None
    count = bytes(data[at + 2 : at + 2 + digits])
    if count and not count.isdigit():
        return None
    if len(count) < digits:
        raise _More(digits - len(count))
    end = at + 2 + digits + int(count)
    if end > MAX_MESSAGE_BYTES:
        raise InputError(
            f"block of {int(count)} bytes: a message holds at most {MAX_MESSAGE_BYTES}"
        )
    if len(data) < end:
        raise _More(end - len(data))
    return end


@dataclass
class Seen:
    """How far a message has been looked at, so that what comes piece by piece is read once.

    Attributes:
        at: where looking goes on: outside strings and blocks, or at the beginning of one.
        last_block: end of the last block before.
    """

    at: int = 0
    last_block: int = 0


def _find(data: bytes | bytearray, stop: int, seen: Seen) -> int:
    """Index of the next `stop` outside strings and blocks (-1: none).

    Where a newline is looked for, it ends strings as well: a quote that nobody closes must not
    swallow all messages that come later.
    """
    newline = -1
    while found := _SPLITS[stop].search(data, seen.at):
        at, pos = found.start(), found.end()
        seen.at = at
        if data[at] == stop:
            return at
        if data[at] == ord("#"):
            begins = data[at - 1] in _BEFORE_BLOCK if at else stop == ord(",")
            end = _block_end(data, at) if begins else None
            if end is not None:
                seen.last_block = end
            seen.at = pos if end is None else end
            continue
        close = data.find(found[0], pos)
        if stop == ord("\n"):
            newline = newline if newline >= pos else data.find(b"\n", pos)
            if newline >= 0 and not 0 <= close < newline:
                return newline
        if close < 0:
            return -1
        seen.at = close + 1
    seen.at = len(data)
    return -1


def take_message(buffer: bytearray, seen: Seen | None = None) -> bytes | None:
    r"""Remove one whole message from the front of a buffer.

    >>> buffer = bytearray(b"REG 0x50,#14\x01\n\x02\x03\r\n*IDN?")
    >>> take_message(buffer), buffer
    (b'REG 0x50,#14\x01\n\x02\x03', bytearray(b'*IDN?'))

    Args:
        buffer: what has come, text first.
        seen: what earlier calls have seen of this message.

    Returns:
        The message without its newline (and a carriage return before it), or None where its end
        has not come.

    Raises:
        InputError: it is longer than `MAX_MESSAGE_BYTES`. The buffer is as it was.
    """
    end, seen = -1, seen or Seen()
    if buffer.find(b"\n", seen.at) >= 0:  # else not even its parts are looked for
        with contextlib.suppress(_More):
            end = _find(buffer, ord("\n"), seen)
    if (len(buffer) if end < 0 else end) > MAX_MESSAGE_BYTES:
        raise InputError(f"message of more than {MAX_MESSAGE_BYTES} bytes")
    if end < 0:
        return None
    cut = end - 1 if end > seen.last_block and buffer[end - 1 : end] == b"\r" else end
    message = bytes(buffer[:cut])
    del buffer[: end + 1]
    return message


def missing(buffer: bytes | bytearray, seen: Seen | None = None) -> int:
    """Bytes that the unfinished block at the end of a buffer lacks; 0 where there is none.

    Of a block whose length has not come, those of the length, or 1; of one that is longer than any
    message, 0: `take_message` refuses it.

    >>> missing(b"REG 0x50,#210abc"), missing(b"REG 0x50,#2"), missing(b"*IDN?")
    (7, 2, 0)
    """
    seen = seen or Seen()
    if buffer.find(b"#", seen.at) >= 0:
        try:
            _find(buffer, ord("\n"), seen)
        except _More as more:
            return more.missing
        except InputError:
            return 0
    return 0


def split(data: bytes, stop: str) -> Iterator[bytes]:
    """Parts of a message between `stop` (";" or ","), with what is inside strings and blocks.

    The last part holds the rest, a block without an end too.
    """
    start = 0
    while True:
        try:
            at = _find(data, ord(stop), Seen(start))
        except (_More, InputError):
            at = -1
        if at < 0:
            yield data[start:]
            return
        yield data[start:at]
        start = at + 1


# ---- units and arguments --------------------------------------------------------------------


class Sort(Enum):
    """What an argument is."""

    NUMBER = "number"
    NAME = "name"
    STRING = "string"
    BLOCK = "block"


@dataclass(frozen=True)
class Argument:
    """One argument: what it is, its text, its number, its bytes."""

    sort: Sort
    text: str = ""
    number: int | float = 0
    data: bytes = b""


def plain(data: bytes, most: int = 80) -> str:
    """Bytes as one line of printable ASCII, for answers and error texts; at most 80 characters."""
    text = "".join(chr(code) if 32 <= code < 127 else "?" for code in data[:most])
    return text if len(data) <= most else f"{text[: most - 3]}..."


def header_of(unit: bytes) -> tuple[str, bytes]:
    """Header of a unit in capitals, and the bytes of its arguments.

    Raises:
        ScpiError: not a header.
    """
    unit = unit.lstrip(_SPACE)
    size = next((at for at, code in enumerate(unit) if code in _SPACE), len(unit))
    header, rest = unit[:size], unit[size:].lstrip(_SPACE)
    if not _HEADER.fullmatch(header):
        number = -101 if re.search(rb"[^\w:*?]", header, re.ASCII) else -102
        raise ScpiError(number, plain(header))
    if any(len(word) > MAX_MNEMONIC for word in header.strip(b"*:?").split(b":")):
        raise ScpiError(-112, plain(header))
    return header.decode("ascii").upper(), rest


def arguments(data: bytes) -> list[Argument]:
    """Arguments of a unit.

    Raises:
        ScpiError: one of them is nothing that an argument can be, or there are too many.
    """
    if not data.strip(_SPACE):
        return []
    parts = list(itertools.islice(split(data, ","), MAX_ARGUMENTS + 1))
    if len(parts) > MAX_ARGUMENTS:
        raise ScpiError(-108, f"more than {MAX_ARGUMENTS} arguments")
    return [argument(part) for part in parts]


def argument(part: bytes) -> Argument:
    """One argument.

    Raises:
        ScpiError: it is nothing that an argument can be.
    """
    part = part.lstrip(_SPACE)
    if part[:1] == b"#":
        return _block_or_base(part)
    text = part.rstrip(_SPACE)
    if text[:1] in (b'"', b"'"):
        return _string(text)
    line = plain(text)
    if re.fullmatch(rb"[A-Za-z]\w*|[0-9A-Fa-f]{64}", text, re.ASCII):  # the latter: a digest
        return Argument(Sort.NAME, line)
    if re.fullmatch(rb"0[xX][0-9A-Fa-f]{1,16}", text):  # as programmers write it
        return Argument(Sort.NUMBER, line, int(text, 16))
    return Argument(Sort.NUMBER, line, _number(line))


def _number(line: str) -> int | float:
    found = _NUMBER.match(line)
    if not found:
        raise ScpiError(-109 if not line else -104, line)
    rest = line[found.end() :]
    if rest:
        raise ScpiError(-138 if _SUFFIX.fullmatch(rest) else -121, f"{line}: write plain numbers")
    text = re.sub(r"\s", "", found[0])
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def _string(text: bytes) -> Argument:
    quote = text[:1]
    inner = text[1:-1].replace(quote * 2, b"")
    if len(text) < 2 or text[-1:] != quote or quote in inner:
        raise ScpiError(-151, plain(text))
    return Argument(Sort.STRING, text[1:-1].replace(quote * 2, quote).decode("latin-1"))


def _block_or_base(part: bytes) -> Argument:
    base = _BASES.get(part[1:2].decode("latin-1").upper())
    if base is not None:
        line = plain(part.rstrip(_SPACE))
        try:
            return Argument(Sort.NUMBER, line, int(line[2:].replace("_", " "), base))
        except ValueError:
            raise ScpiError(-121, line) from None
    try:
        end = _block_end(part, 0)
    except _More:
        raise ScpiError(-161, "the message ends inside the block") from None
    except InputError as error:
        raise ScpiError(-161, str(error)) from None
    if end is None or part[end:].strip(_SPACE):
        raise ScpiError(-161, f"{plain(part[:12])}: expected #<n><n digits><bytes>")
    return Argument(Sort.BLOCK, data=part[2 + part[1] - ord("0") : end])


# ---- blocks ---------------------------------------------------------------------------------


def block(data: bytes, crc: bool = False) -> bytes:
    r"""A definite-length block of IEEE 488.2.

    >>> block(b"abc"), block(b"", crc=True)
    (b'#13abc', b'#14\x00\x00\x00\x00')

    Args:
        data: what it holds.
        crc: put the CRC-32 (IEEE 802.3) of `data` behind it, little-endian, inside the block.
    """
    held = data + zlib.crc32(data).to_bytes(CRC_BYTES, "little") if crc else data
    count = str(len(held)).encode()
    return b"#" + str(len(count)).encode() + count + held


def unpack(held: bytes, crc: bool = False) -> bytes:
    """What a block holds, its CRC checked and taken off.

    Raises:
        ScpiError: the CRC is missing or does not fit.
    """
    if not crc:
        return held
    data, check = held[:-CRC_BYTES], held[-CRC_BYTES:]
    if len(check) != CRC_BYTES or zlib.crc32(data) != int.from_bytes(check, "little"):
        raise ScpiError(-161, f"the CRC-32 of a block of {len(held)} bytes does not fit")
    return data


# ---- headers --------------------------------------------------------------------------------


def spellings(pattern: str) -> set[str]:
    """All headers that a pattern stands for, in capitals.

    >>> sorted(spellings("SYSTem:ERRor[:NEXT]?"))[:3]
    ['SYST:ERR:NEXT?', 'SYST:ERR?', 'SYST:ERROR:NEXT?']
    """
    body, query = pattern.rstrip("?"), "?" if pattern.endswith("?") else ""
    ways: list[list[str]] = []
    for optional, node in re.findall(r"(\[?):?([*A-Za-z]+)\]?", body):
        short = "".join(letter for letter in node if not letter.islower())
        ways.append([short, node.upper()] + ([""] if optional else []))
    return {":".join(word for word in words if word) + query for words in itertools.product(*ways)}


def resolve(header: str, path: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The whole header of a unit, and the path that the next unit of the message begins from.

    A header without a colon in front goes on from the path of the one before it; common commands
    (`*RST`) neither use nor change it.

    >>> resolve("ERR?", ("SYST",)), resolve(":REG?", ("SYST",))
    (('SYST:ERR?', ('SYST',)), ('REG?', ()))
    """
    if header.startswith("*"):
        return header, tuple(path)
    nodes = header[1:].split(":") if header.startswith(":") else [*path, *header.split(":")]
    return ":".join(nodes), tuple(nodes[:-1])
