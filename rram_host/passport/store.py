"""One file that one process at a time writes, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rram_host.errors import InputError
from rram_host.file_lock import FileLock


def layout(values: Mapping[str, Any]) -> str:
    """JSON of an object, laid out to be read: a row of an array, a cell or an event is a line.

    Raises:
        InputError: a number is not finite.
    """
    try:
        return _object(values, 0) + "\n"
    except ValueError as error:
        raise InputError(f"a passport cannot hold this: {error}") from None


def _object(values: Mapping[str, Any], depth: int) -> str:
    pad = " " * (depth + 1)
    entries = [f"{pad}{json.dumps(key)}: {_value(item, depth + 1)}" for key, item in values.items()]
    return "{\n" + ",\n".join(entries) + f"\n{' ' * depth}}}"


def _value(value: Any, depth: int) -> str:
    if isinstance(value, Mapping) and value:
        return _object(value, depth)
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        pad = " " * (depth + 1)
        lines = [pad + json.dumps(item, allow_nan=False, ensure_ascii=False) for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{' ' * depth}]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def parse(text: bytes, where: object) -> Any:
    """The value that JSON text stands for.

    Raises:
        InputError: it is no JSON; NaN and Infinity are none either.
    """

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is not a number of JSON; null stands for what is not known")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}") from None


class PassportFile:
    """A file, what it held when this process last saw it, and the right to write it.

    Args:
        path: where; links are followed, so that a link stays one.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self._known: set[str | None] = {None}  # digests that are this process' own doing
        named = f"passport {self.path}"
        self._lock = FileLock(self.path, named, f"{named} is in use: a board is open with it")

    def read(self) -> bytes | None:
        """What the file holds; None where there is no file.

        Raises:
            InputError: it cannot be read.
        """
        content = self._content()
        self._known = {_digest(content)}
        return content

    def _content(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"passport {self.path} cannot be read: {error.strerror}") from None

    def claim(self) -> None:
        """Become the one process that writes this file, until `release`.

        Raises:
            InputError: the folder is missing, folder or file cannot be written, or another
                process, or another open board of this one, has the passport.
        """
        folder = self.path.parent
        if not folder.is_dir():
            raise InputError(f"passport {self.path}: there is no folder {folder}")
        if self.path.exists() and not (self.path.is_file() and os.access(self.path, os.W_OK)):
            raise InputError(f"passport {self.path} is not a file that can be written")
        self._lock.take()

    def release(self) -> None:
        """Let others write the file. Releasing twice does nothing."""
        self._lock.release()

    def write(self, text: str) -> None:
        """Replace the file; after a crash at any instant it holds the old text or the new.

        Raises:
            InputError: it cannot be written, or someone else has written it since it was read
                here; then it is left alone, and the text is kept in a file beside it.
        """
        if not self._lock.held:
            self.claim()
            try:
                self.write(text)
            finally:
                self.release()
            return
        content = text.encode()
        try:
            if _digest(self._content()) not in self._known:
                kept = self.path.with_name(f"{self.path.name}.kept-{os.getpid()}")
                _replace(kept, content)
                raise InputError(
                    f"passport {self.path} was changed by someone else since it was read here; it "
                    f"is left as it is, and what this process has noted is kept in {kept}"
                )
            # Known before it is there: a signal between the two must not make us a stranger.
            self._known.add(_digest(content))
            _replace(self.path, content)
        except OSError as error:
            raise InputError(f"passport {self.path} cannot be written: {error}") from None
        self._known = {_digest(content)}


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside, make sure it is on the disk, and put it in the place of the old one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
