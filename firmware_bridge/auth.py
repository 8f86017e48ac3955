"""The key of a bridge: its file, and how a client proves that it holds it.

The bridge gives a random number (nonce), the client answers with an HMAC-SHA256 of it, so the key
itself never travels and an answer that somebody overheard is worth nothing:

* frames: HMAC(key, b"frames" + nonce + session as 4 bytes, little-endian);
* text: HMAC(key, b"text" + nonce).

What follows is neither encrypted nor signed: whoever can change packets on the way can change
requests of a client that has signed on.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from firmware_bridge.errors import InputError

MIN_KEY_BYTES = 32
MAX_KEY_BYTES = 4096
NONCE_BYTES = 32
DIGEST_BYTES = 32
MAX_FAILURES = 3
_CHALLENGE = "challenge "


def load_key(path: str | Path) -> bytes:
    """The key in a file; white space at its ends does not count.

    Raises:
        InputError: no such file, one that others may read or write, or too short or long a key.
    """
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"key file {path} is no regular file")
            if mode & 0o077:
                raise InputError(
                    f"key file {path} may be read or written by others (mode {mode:03o}): a key is "
                    f"for its owner alone; chmod 600 {path}, and take a new key if it was seen"
                )
            key = file.read(MAX_KEY_BYTES + 1).strip()
    except OSError as error:
        raise InputError(f"cannot read the key file {path}: {error.strerror}") from error
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise InputError(
            f"key file {path} holds {len(key)} bytes; the limits are {MIN_KEY_BYTES} to "
            f"{MAX_KEY_BYTES}. Make one with rram-bridge --make-key FILE"
        )
    return key


def make_key(path: str | Path) -> None:
    """Write a fresh key, for its owner alone to read: 256 random bits as 64 hexadecimal digits.

    Raises:
        InputError: the file exists, or cannot be made.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InputError(f"cannot make the key file {path}: {error.strerror}") from error
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_hex(MIN_KEY_BYTES))


# ---- proofs ---------------------------------------------------------------------------------


def frames_digest(key: bytes, nonce: bytes, session: int) -> bytes:
    """What a host sends in a frame of kind AUTH."""
    return hmac.digest(key, b"frames" + nonce + session.to_bytes(4, "little"), "sha256")


def text_digest(key: bytes, nonce: bytes) -> bytes:
    """What a client of the text dialect sends, in hexadecimal digits, with SYSTem:AUTH."""
    return hmac.digest(key, b"text" + nonce, "sha256")


def challenge_text(nonce: bytes) -> str:
    """Text of the error reply that demands a proof."""
    return _CHALLENGE + nonce.hex()


def nonce_in(text: str) -> bytes | None:
    """The nonce of a challenge; None where the text is none."""
    digits = text[len(_CHALLENGE) :]
    try:
        nonce = bytes.fromhex(digits) if text.startswith(_CHALLENGE) else b""
    except ValueError:
        return None
    return nonce if len(nonce) == NONCE_BYTES else None


class Gate:
    """What one client has proved so far.

    A nonce is good for one proof, right or wrong.

    Args:
        key: of the bridge.

    Attributes:
        failures: wrong proofs so far; after `MAX_FAILURES` none is looked at any more.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.nonce = secrets.token_bytes(NONCE_BYTES)
        self.failures = 0

    @property
    def shut(self) -> bool:
        """True after too many wrong proofs."""
        return self.failures >= MAX_FAILURES

    def try_frames(self, digest: bytes, session: int) -> bool:
        """Whether this proves that a session's host holds the key."""
        return self._try(digest, frames_digest(self._key, self.nonce, session))

    def try_text(self, digest_hex: str) -> bool:
        """Whether this proves that a client of the text dialect holds the key."""
        try:
            digest = bytes.fromhex(digest_hex)
        except ValueError:
            digest = b""
        return self._try(digest, text_digest(self._key, self.nonce))

    def _try(self, digest: bytes, expected: bytes) -> bool:
        self.nonce = secrets.token_bytes(NONCE_BYTES)
        if self.shut:
            return False
        proved = hmac.compare_digest(digest, expected)
        self.failures += not proved
        return proved
