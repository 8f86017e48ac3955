"""Recordings of register traffic: every transaction a line of JSON, in the order it happened.

The first line says what the recording is; each further line is one transaction:

    {"n": 9, "op": "w", "at": "0x30", "name": "SAFE_ENTRY", "count": 1, "t_s": 0.000571,
     "words": [16128]}

`words` are whole numbers; more than 16 of them are base64 of their bytes, little-endian
("base64"), or of those compressed by zlib where that is shorter ("zlib"; long ones only where
they shrink well). A transaction that failed has an "error". Lines go out whole and at once: a
killed process leaves whole lines, but for the last one perhaps.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import platform
import shlex
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from firmware_bridge import registers
from firmware_bridge.contract import contract_hash
from firmware_bridge.errors import InputError, RramError
from firmware_bridge.traffic import READ, RESTORE, WRITE, Access, Words, place
from firmware_bridge.windows import Window

FORMAT, FORMAT_VERSION = "rram recording", 1
_LISTED_WORDS = 16  # as a list; more are shorter in base64
_SHORT_BYTES, _SAMPLE_BYTES = 1 << 14, 1 << 11
_DAMAGE = (ValueError, ArithmeticError, LookupError, TypeError, RecursionError, zlib.error)
_MAX_LINE_BYTES = 6 * registers.WINDOW_BYTES  # base64 of a whole window, and what is around it


class Recorder:
    """A `Window` that passes everything on to another one, and writes it down.

    A recording that cannot be written (a full disk) fails the transaction at hand, which has been
    carried out by then, and ends; later transactions pass unrecorded, so rails can be made safe.

    Args:
        window: what is recorded; `close` closes it, too.
        path: of the recording, a new file.
        board: URL of the board, for the header.
        spec: name of the board file, for the header.

    Raises:
        InputError: the file exists, or cannot be made.
    """

    def __init__(self, window: Window, path: Path | str, board: str = "", spec: str = "") -> None:
        self._window = window
        self.path = Path(path)
        self._lock = threading.Lock()  # the order on the board is the order in the file
        self._begun_s, self._number = time.monotonic(), 0
        refuse_existing(self.path)
        try:
            self._file: BinaryIO | None = self.path.open("xb", buffering=0)
        except OSError as error:
            raise InputError(f"cannot record into {self.path}: {error.strerror}") from None
        self._put(_line(header(board, spec)))

    def read(self, address: int, count: int) -> Words:
        """Read `count` words, and write down which they were."""
        with self._lock:
            try:
                words = self._window.read(address, count)
            except InputError:
                raise  # refused before it reached the board
            except BaseException as error:
                self._failed(error, READ, address, count, None)
                raise
            self._note(READ, address, words.size, words)
            return words

    def write(self, address: int, words: Words) -> None:
        """Write words, and write down which they were."""
        with self._lock:
            try:
                self._window.write(address, words)
            except InputError:
                raise
            except BaseException as error:
                self._failed(error, WRITE, address, len(words), np.asarray(words))
                raise
            self._note(WRITE, address, len(words), np.asarray(words))

    def note_restored(self, blob: bytes) -> None:
        """Write down that the board was put back to a snapshot, and to which."""
        with self._lock:
            told = {"n": self._number + 1, "op": RESTORE, "t_s": self._passed_s()}
            data = _line({**told, "sha256": hashlib.sha256(blob).hexdigest()})
            self._number += 1
            self._put(data)

    def close(self) -> None:
        """End the recording, and close the window where it can be closed.

        A recording of nothing is removed: the board was not opened.
        """
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()
                if not self._number:
                    self.path.unlink(missing_ok=True)
        close = getattr(self._window, "close", None)
        if close is not None:
            close()

    # ---- lines ------------------------------------------------------------------------------

    def _passed_s(self) -> float:
        return round(time.monotonic() - self._begun_s, 6)

    def _note(
        self, kind: str, address: int, count: int, words: Words | None, error: str = ""
    ) -> None:
        if self._file is None or not count:
            return
        line: dict[str, Any] = {"n": self._number + 1, "op": kind, "at": hex(address)}
        line |= {"name": place(address), "count": count, "t_s": self._passed_s()}
        line |= {"error": error} if error else {}
        data = _line(line, words)
        # just before its line: a Ctrl-C while that is made must leave no gap in the numbers
        self._number += 1
        self._put(data)

    def _failed(
        self, error: BaseException, kind: str, address: int, count: int, words: Words | None
    ) -> None:
        self._note(kind, address, count, words, f"{type(error).__name__}: {error}")

    def _put(self, line: bytes) -> None:
        """One line in one call of the system; no buffer that a kill could lose."""
        if self._file is None:
            return
        data = memoryview(line)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            file, self._file = self._file, None
            file.close()
            raise RramError(
                f"recording {self.path} ends before transaction {self._number}: {error.strerror}; "
                "what comes now is not recorded"
            ) from None


def refuse_existing(path: Path | str) -> None:
    """Say early that a recording cannot be made where something is already.

    Raises:
        InputError: the file exists.
    """
    if Path(path).exists():
        raise InputError(f"{path} exists; a recording is never written over")


def header(board: str, spec: str) -> dict[str, Any]:
    """The first line."""
    try:
        by = f"rram-bench {version('rram-bench')}"
    except PackageNotFoundError:  # from a checkout, on the board's own Linux
        by = "rram-bench (not installed)"
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "contract": f"{contract_hash():#010x}",
        "board": board,
        "spec": spec,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "by": f"{by}, Python {platform.python_version()}, numpy {np.__version__}",
        "command": _command(),
    }


def _command() -> str:
    """What was typed, without the folders of Python and of this program."""
    if sys.orig_argv[1:2] == ["-m"]:
        return shlex.join(["python", *sys.orig_argv[1:]])
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _line(told: dict[str, Any], words: Words | None = None) -> bytes:
    rest = b"" if words is None else _packed(words)
    return json.dumps(told).encode()[:-1] + rest + b"}\n"


def _packed(words: Words) -> bytes:
    """Words as the end of a line; without `json`, which would look at every letter of base64."""
    if words.size <= _LISTED_WORDS:
        return f', "words": {words.tolist()}'.encode()
    data = words.astype("<u4", copy=False).tobytes()
    # Long ones only if a sample shrinks well: a batch of products must not wait for codes that
    # hardly do.
    is_long = len(data) > _SHORT_BYTES
    if not is_long or len(zlib.compress(data[:_SAMPLE_BYTES], 1)) < _SAMPLE_BYTES // 4:
        small = zlib.compress(data, 1)
        if len(small) < len(data):
            return b', "zlib": "%b"' % base64.b64encode(small)
    return b', "base64": "%b"' % base64.b64encode(data)


# ---- reading ------------------------------------------------------------------------------------


class Recording:
    """A recording, read line by line; iterate over it for its transactions.

    A last line that a killed process left unfinished is left out.

    Args:
        path: of the file.

    Attributes:
        header: the first line.

    Raises:
        InputError: no such file, not a recording, or one of another format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                first = file.readline(_MAX_LINE_BYTES)
        except OSError as error:
            raise InputError(f"recording {self.path}: {error.strerror}") from None
        self.header = self._header(first)

    def _header(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{self.path} is not a recording of register traffic")
        if found.get("version") != FORMAT_VERSION:
            raise InputError(
                f"{self.path} has format version {found.get('version')}, this program reads "
                f"{FORMAT_VERSION}"
            )
        return found

    def text(self, key: str) -> str:
        """A text of the header; empty where it is missing."""
        value = self.header.get(key, "")
        return value if isinstance(value, str) else ""

    def __iter__(self) -> Iterator[Access]:
        """All transactions.

        Raises:
            InputError: a line is damaged; says which.
        """
        with self.path.open("rb") as file:
            file.readline(_MAX_LINE_BYTES)
            for number in range(1, sys.maxsize):
                line = file.readline(_MAX_LINE_BYTES)
                if not line:
                    return
                try:
                    yield _access(line, number)
                except _DAMAGE as error:
                    if not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES:
                        return  # torn by a kill
                    raise InputError(
                        f"{self.path}: line {number + 1} is damaged: {_said(error)}"
                    ) from None


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error}"
    return str(error)


def _access(line: bytes, number: int) -> Access:
    found = json.loads(line)
    if not isinstance(found, dict) or found.get("n") != number:
        raise ValueError(f"not transaction {number}")
    kind, t_s = found["op"], float(found["t_s"])
    if kind == RESTORE:
        return Access(number, RESTORE, 0, 0, np.empty(0, np.uint32), t_s)
    address, count, error = int(found["at"], 16), found["count"], str(found.get("error", ""))
    if kind not in (READ, WRITE) or not isinstance(count, int):
        raise ValueError(f"op {kind!r} of {count!r} words")
    if address % 4 or address < 0 or not 0 < count <= (registers.WINDOW_BYTES - address) // 4:
        raise ValueError(f"{count} words at {address:#x} do not lie in the window")
    words = np.empty(0, np.uint32) if kind == READ and error else _unpacked(found, count)
    return Access(number, kind, address, count, words, t_s, error)


def _unpacked(found: dict[str, Any], count: int) -> Words:
    if "words" in found:
        data = np.array(found["words"], dtype=np.int64)
        if data.shape != (count,) or data.min() < 0 or data.max() > 0xFFFF_FFFF:
            raise ValueError(f"not {count} words of 32 bits")
        return data.astype(np.uint32)
    try:
        packed = base64.b64decode(found["zlib" if "zlib" in found else "base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
    if "zlib" in found:  # no more than was told of: a damaged line must not fill the memory
        packed = zlib.decompressobj().decompress(packed, 4 * count + 1)
    if len(packed) != 4 * count:
        raise ValueError(f"{len(packed)} bytes instead of {count} words")
    return np.frombuffer(packed, "<u4").astype(np.uint32)
