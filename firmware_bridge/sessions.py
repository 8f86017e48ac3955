"""Who asks, and what they were answered: roles of clients, and the sessions of their hosts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from firmware_bridge.frames import MAX_IN_FLIGHT, Frame

MAX_SESSIONS = 16  # of a role; of a stream's role all but one are sessions that only said hello
MAX_ENDED = 4096  # numbers that are not opened again


@dataclass(eq=False)
class Mark:
    """What the board looked like when somebody wrote last: see `firmware_bridge.pen`."""

    generation: int | None = None


@dataclass(eq=False)
class Role:
    """One client of an agent.

    Attributes:
        peer: what to call it.
        one_host: whether a new session ends the ones before it, as on a stream, where what still
            comes of an old session was given up and must not be done any more.
        heard_s: when it was last heard or answered.
        ended: its stream is closed.
    """

    peer: str
    one_host: bool = True
    heard_s: float = 0.0
    ended: bool = False


@dataclass(eq=False)
class Session:
    """What is next, and the replies that a lost answer may be asked for again.

    Attributes:
        role: the client that opened it.
        first: sequence of the first request behind the hello.
        mark: of its writes.
        read_only: why it may not write any more.
        failed: the request before was not done.
    """

    role: Role
    first: int = 1
    next: int = 0
    replies: OrderedDict[int, Frame] = field(default_factory=OrderedDict)
    mark: Mark = field(default_factory=Mark)
    read_only: str = ""
    failed: bool = False

    def remember(self, reply: Frame) -> Frame:
        """Keep a reply; the oldest is forgotten, of which a host asks no more."""
        self.replies[reply.sequence] = reply
        self.next = reply.sequence + 1 if reply.sequence else self.first
        if len(self.replies) > MAX_IN_FLIGHT:
            self.replies.popitem(last=False)
        return reply


class Sessions:
    """All sessions of an agent, by number.

    Args:
        draw_first: draws the sequence of a session's first request.
    """

    def __init__(self, draw_first: Callable[[], int]) -> None:
        self._draw_first = draw_first
        self._open: OrderedDict[int, Session] = OrderedDict()
        self._ended: OrderedDict[int, None] = OrderedDict()

    def find(self, frame: Frame, role: Role) -> Session | str:
        """The session of a request, opened by a hello; or why there is none."""
        session = self._open.get(frame.session)
        if session is None:
            if frame.session in self._ended:
                return "this session has ended: a newer one began, or its link was closed"
            if not frame.is_hello:
                return "unknown session: the bridge was restarted, or forgot it for newer ones"
            return self._begin(frame.session, role)
        if session.role is not role:
            return f"this session belongs to {session.role.peer}: draw another number"
        if role.one_host and frame.sequence:
            self._end_others(frame.session, role)
        return session

    def _begin(self, number: int, role: Role) -> Session:
        mine = self._of(role)
        if len(mine) >= MAX_SESSIONS:
            self._end(mine[0])
        session = self._open[number] = Session(role, self._draw_first())
        return session

    def _of(self, role: Role) -> list[int]:
        return [number for number, session in self._open.items() if session.role is role]

    def _end_others(self, number: int, role: Role) -> None:
        if len(self._open) > 1:
            for other in self._of(role):
                if other != number:
                    self._end(other)

    def _end(self, number: int) -> None:
        del self._open[number]
        self._ended[number] = None
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    def end_all_of(self, role: Role) -> None:
        """Forget the sessions of a client that is gone; their numbers stay spent."""
        for number in self._of(role):
            self._end(number)
