"""Requests on their way: which are sent, and which are answered."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.frames import ErrorCode, Frame, Kind


class Flight:
    """The requests of one transfer, in sequence.

    Args:
        requests: in the order of their sequence numbers.
        in_flight: how many may be unanswered at a time.

    Attributes:
        replies: of each request; None while there is none.
    """

    def __init__(self, requests: Sequence[Frame], in_flight: int) -> None:
        self._requests, self._in_flight = requests, in_flight
        self.replies: list[Frame | None] = [None] * len(requests)
        self._first = self._sent = 0  # index of the oldest unanswered, number of those sent

    @property
    def done(self) -> bool:
        """Whether every request is answered."""
        return self._first == len(self._requests)

    def waiting(self) -> list[Frame]:
        """Sent and not answered, oldest first."""
        span = range(self._first, self._sent)
        return [self._requests[i] for i in span if self.replies[i] is None]

    def next_to_send(self) -> Sequence[Frame]:
        """Requests that may go out now.

        Counted from the oldest unanswered one: the agent remembers no more replies than that.
        """
        before = self._sent
        self._sent = min(self._first + self._in_flight, len(self._requests))
        return self._requests[before : self._sent]

    def accept(self, frame: Frame) -> bool:
        """Take a frame if it answers a waiting request; False for any other."""
        index = frame.sequence - self._requests[0].sequence
        if not self._first <= index < self._sent or self.replies[index] is not None:
            return False
        if not frame.answers(self._requests[index]):
            return False
        # Refused for coming too early: not executed, it will be sent again in its turn.
        if frame.kind is Kind.ERROR and frame.reason()[0] == ErrorCode.ORDER:
            return False
        self.replies[index] = frame
        self._imply(index, frame)
        while not self.done and self.replies[self._first] is not None:
            self._first += 1
        return True

    def _imply(self, index: int, answer: Frame) -> None:
        """What is answered was done after all it is chained to; quiet ones are not answered."""
        if answer.kind is Kind.ERROR and answer.reason()[0] == ErrorCode.SKIPPED:
            return
        while index > 0 and self._requests[index].chained:
            index -= 1
            if not self._requests[index].quiet or self.replies[index] is not None:
                return
            self.replies[index] = self._requests[index].reply()
