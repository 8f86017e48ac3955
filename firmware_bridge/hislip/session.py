"""One HiSLIP client: what comes over its two connections, and what goes back.

Data go over the first connection, through the bridge's `Client`; status queries, locks and device
clear go over the second, from another thread.
"""

from __future__ import annotations

import threading

from firmware_bridge.client import Client
from firmware_bridge.hislip.locks import FAILURE, Locks
from firmware_bridge.hislip.messages import HEADER, Channel, Fatal, FatalError, Kind, Message
from firmware_bridge.hislip.messages import Refusal as No
from firmware_bridge.text.scpi import MAX_MESSAGE_BYTES

MAX_REQUEST = MAX_MESSAGE_BYTES + (1 << 16)
DELIVERED = 1  # control code of the client: it has the whole answer to its last request
_DEFAULT_SIZE, _LEAST_SIZE = 1 << 20, 256
_LOCK_PATIENCE_S = 86_400.0
# pyvisa-py takes whatever comes on the second connection for the answer to its last question.
_TAKES_NO_NEWS = int.from_bytes(b"xx", "big")


class Session:
    """One client.

    Args:
        number: session id.
        client: does what it asks.
        data: first connection.
        vendor: of the client's software, from its Initialize.
        locks: shared by all clients of the server.
    """

    def __init__(
        self, number: int, client: Client, data: Channel, vendor: int, locks: Locks
    ) -> None:
        self.number = number
        self._client, self._data, self._vendor, self._locks = client, data, vendor, locks
        self.news: Channel | None = None  # second connection, once it is there
        self._most_bytes = _DEFAULT_SIZE  # of one message that the client takes
        self._request, self._too_long = bytearray(), False
        self._unread = False  # an answer was sent, and the client has not said that it has it
        self._clearing, self._gone = threading.Event(), threading.Event()

    @property
    def authorised(self) -> bool:
        """Whether the client has proved its key, where there is one."""
        return self._client.authorised

    def end(self) -> None:
        """Both connections end, and what they wait for; from any thread."""
        self._gone.set()
        self._client.cancel()
        for channel in (self._data, self.news):
            if channel is not None:
                channel.end()

    def _given_up(self) -> bool:
        return self._clearing.is_set() or self._gone.is_set()

    # ---- first connection -------------------------------------------------------------------

    def serve_data(self) -> None:
        """Answer requests until the client hangs up, or sends what cannot go on."""
        try:
            while (message := self._data.receive()) is not None and not self._gone.is_set():
                if message.kind == Kind.FATAL_ERROR:
                    return
                self._take_data(message)
        except FatalError as error:
            self._data.fatal(error.code)
        finally:
            self.end()
            self._locks.forget(self)
            self._client.close()

    def _take_data(self, message: Message) -> None:
        if message.kind in (Kind.DATA, Kind.DATA_END, Kind.TRIGGER):
            if self.news is None:
                raise FatalError(Fatal.NO_ASYNC)
            if not self._clearing.is_set():
                self._take_request(message)
        elif message.kind == Kind.DEVICE_CLEAR_COMPLETE:
            self._clear(message)
        elif message.kind != Kind.ERROR:
            self._data.refuse(No.VENDOR if message.kind >= 128 else No.TYPE)

    def _take_request(self, message: Message) -> None:
        if self._unread and not message.control & DELIVERED:
            self._interrupted(message.parameter)
        self._unread = False
        if message.kind == Kind.TRIGGER:
            self._client.report(-211)
            return
        payload = message.payload
        if payload is None or len(self._request) + len(payload) > MAX_REQUEST:
            self._too_long = True
            self._request.clear()
        elif not self._too_long:
            self._request += payload
        if message.kind == Kind.DATA_END:
            self._execute(message.parameter)

    def _interrupted(self, message_id: int) -> None:
        """A request came before the answer to the last one was read: nobody reads it any more."""
        self._client.report(-410)
        self._data.send(Kind.INTERRUPTED, 0, message_id)
        if self.news is not None and self._vendor != _TAKES_NO_NEWS:
            self.news.send(Kind.ASYNC_INTERRUPTED, 0, message_id)

    def _execute(self, message_id: int) -> None:
        request, self._request = bytes(self._request), bytearray()
        too_long, self._too_long = self._too_long, False
        if too_long:
            self._client.report(-363, f"a request holds at most {MAX_REQUEST} bytes")
            return
        # SAFE passes every lock: it is what a person sends who sees that something is wrong.
        safe = request.strip().upper() == b"SAFE"
        if not safe and not self._locks.wait(self, self._given_up):
            return
        answer = b"".join(self._client.feed(request, end=True))
        if self._client.refused:  # too many wrong proofs of the key
            self.end()
        if answer and not self._given_up():
            self._answer(answer, message_id)

    def _answer(self, data: bytes, message_id: int) -> None:
        step = max(self._most_bytes - HEADER.size, 1)
        last = (len(data) - 1) // step * step
        self._unread = True  # before it is there: the client may have read it all at once
        for at in range(0, last, step):
            self._data.send(Kind.DATA, 0, message_id, data[at : at + step])
        self._data.send(Kind.DATA_END, 0, message_id, data[last:])

    def _clear(self, message: Message) -> None:
        """The client has dropped all answers; nothing of before is left on this connection."""
        self._request.clear()
        self._too_long = self._unread = False
        self._client.clear()
        self._clearing.clear()
        self._data.send(Kind.DEVICE_CLEAR_ACKNOWLEDGE, message.control & ~1)  # synchronized mode

    # ---- second connection ------------------------------------------------------------------

    def serve_news(self, channel: Channel) -> None:
        """Answer status queries, locks and device clear until the client hangs up."""
        try:
            while not self._gone.is_set() and (message := channel.receive()) is not None:
                if message.kind == Kind.FATAL_ERROR:
                    return
                self._take_news(channel, message)
        except FatalError as error:
            channel.fatal(error.code)
        finally:
            self.end()

    def _take_news(self, channel: Channel, message: Message) -> None:
        kind, payload = message.kind, message.payload or b""
        if kind == Kind.ASYNC_STATUS_QUERY:
            if message.control & DELIVERED:
                self._unread = False
            channel.send(Kind.ASYNC_STATUS_RESPONSE, self._client.status_byte(self._unread))
        elif kind == Kind.ASYNC_MAX_MSG_SIZE:
            wanted = int.from_bytes(payload[:8], "big")
            self._most_bytes = min(max(wanted, _LEAST_SIZE), _DEFAULT_SIZE)
            size = _DEFAULT_SIZE.to_bytes(8, "big")
            channel.send(Kind.ASYNC_MAX_MSG_SIZE_RESPONSE, payload=size)
        elif kind == Kind.ASYNC_DEVICE_CLEAR:
            self._clearing.set()
            self._client.interrupt()
            channel.send(Kind.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE)
        elif kind == Kind.ASYNC_LOCK:
            channel.send(Kind.ASYNC_LOCK_RESPONSE, self._lock(message, payload))
        elif kind == Kind.ASYNC_LOCK_INFO:
            exclusive, holders = self._locks.holders
            channel.send(Kind.ASYNC_LOCK_INFO_RESPONSE, int(exclusive), holders)
        elif kind == Kind.ASYNC_REMOTE_LOCAL_CONTROL:  # there is no front panel to lock
            channel.send(Kind.ASYNC_REMOTE_LOCAL_RESPONSE)
        elif kind != Kind.ERROR:
            channel.refuse(No.VENDOR if kind >= 128 else No.TYPE)

    def _lock(self, message: Message, key: bytes) -> int:
        if not message.control & 1:
            return self._locks.release(self)
        if not self.authorised:  # else whoever reaches the port could keep all others out
            return FAILURE
        timeout_s = min(message.parameter * 1e-3, _LOCK_PATIENCE_S)
        return self._locks.acquire(self, key[:256], timeout_s, self._given_up)
