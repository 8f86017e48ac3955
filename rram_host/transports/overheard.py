"""Is it the bridge that answers? Says what was heard instead, where it is not."""

from __future__ import annotations

from firmware_bridge.frames import REQUESTS, FrameDecoder
from rram_host.errors import LinkError
from rram_host.transports.framed import FramedTransport, LinkSettings, Stream

_KEPT_BYTES = 4096
_SHOWN_BYTES = 40
_PRINTABLE = set(range(0x20, 0x7F)) | set(b"\r\n\t\x1b")
_PROMPTS = (b"login", b"assword", b"# ", b"$ ", b"> ")


class Overheard:
    """A stream that keeps the first bytes that come."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._kept = bytearray()

    def write(self, data: bytes) -> None:
        """Send all bytes."""
        self._stream.write(data)

    def read(self, timeout_s: float) -> bytes:
        """Return bytes as soon as some are there; b"" after `timeout_s` without any."""
        data = self._stream.read(timeout_s)
        if len(self._kept) < _KEPT_BYTES:
            self._kept += data[: _KEPT_BYTES - len(self._kept)]
        return data

    def close(self) -> None:
        """Give the line back."""
        self._stream.close()

    def stranger(self) -> str | None:
        """Who speaks there, in words; None where nobody does, or the bridge."""
        data = bytes(self._kept)
        frames = FrameDecoder().feed(data)
        if not data or any(frame.kind not in REQUESTS for frame in frames):
            return None
        if frames:
            return "what is sent comes back: an echo, a loopback plug or two wires in touch"
        # A console echoes what it is sent: its own words come behind that, or are all there is.
        text = sum(byte in _PRINTABLE for byte in data) > 0.8 * len(data)
        if text or any(prompt in data for prompt in _PROMPTS):
            return f"text comes back, a console or another instrument: {_shown(data)!r}"
        return (
            f"{len(data)} bytes came that are no frames, another device or another speed: "
            f"{data[:_SHOWN_BYTES].hex(' ')}"
        )


def _shown(data: bytes) -> str:
    """The last line that says anything, as a person would read it."""
    lines = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
    return ([line for line in lines if line] or [""])[-1][-_SHOWN_BYTES:]


def connected(
    stream: Stream, name: str, settings: LinkSettings, key: bytes | None = None
) -> FramedTransport:
    """A transport on a stream, once the bridge has answered; the stream is closed otherwise.

    Args:
        stream: the line.
        name: what to call it in messages, normally its URL.
        settings: patience and sizes.
        key: for a bridge that asks for one.

    Raises:
        LinkError: nothing answers, or something that is no bridge.
        ContractError: the bridge speaks another protocol.
    """
    heard = Overheard(stream)
    transport = FramedTransport(heard, name, settings, key=key)
    try:
        transport.connect()
    except LinkError as error:
        transport.close()
        stranger = heard.stranger()
        if stranger is None:
            raise
        raise LinkError(f"{name}: no bridge answers there, but {stranger}") from error
    except BaseException:
        transport.close()
        raise
    return transport
