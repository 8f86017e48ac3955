"""Locks of HiSLIP clients: one exclusive, or a shared one among those who name the same key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

FAILURE, SUCCESS, SUCCESS_SHARED, ERROR = 0, 1, 2, 3
_LOOK_S = 0.05  # how soon who waits notices that it shall not


class Locks:
    """Who may act.

    >>> locks = Locks()
    >>> locks.acquire("a", b"", 0.0, lambda: False), locks.may_act("b"), locks.holders
    (1, False, (True, 1))
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exclusive: Hashable = None
        self._shared: set[Hashable] = set()
        self._key = b""

    @property
    def holders(self) -> tuple[bool, int]:
        """Whether somebody holds the exclusive lock, and how many hold one or the other."""
        with self._changed:
            alone = {self._exclusive} - {None}
            return bool(alone), len(self._shared | alone)

    def may_act(self, who: Hashable) -> bool:
        """Whether no lock of others is in the way."""
        with self._changed:
            return self._free_for(who)

    def wait(self, who: Hashable, given_up: Callable[[], bool]) -> bool:
        """Wait until no lock of others is in the way; False when given up."""
        with self._changed:
            while not self._free_for(who):
                if given_up():
                    return False
                self._changed.wait(_LOOK_S)
            return True

    def acquire(
        self, who: Hashable, key: bytes, timeout_s: float, given_up: Callable[[], bool]
    ) -> int:
        """Take the exclusive lock (no key) or the shared one of a key.

        Returns:
            SUCCESS, FAILURE (somebody else held it all the time) or ERROR (held already).
        """
        until = time.monotonic() + timeout_s
        with self._changed:
            if self._exclusive == who or (key and who in self._shared):
                return ERROR
            while not self._grantable(who, key):
                left_s = until - time.monotonic()
                if left_s <= 0 or given_up():
                    return FAILURE
                self._changed.wait(min(left_s, _LOOK_S))
            if key:
                self._shared.add(who)
                self._key = key
            else:
                self._exclusive = who
            return SUCCESS

    def release(self, who: Hashable) -> int:
        """Give back the exclusive lock, or else the shared one.

        Returns:
            SUCCESS, SUCCESS_SHARED or ERROR (none was held).
        """
        with self._changed:
            self._changed.notify_all()
            if self._exclusive == who:
                self._exclusive = None
                return SUCCESS
            if who in self._shared:
                self._shared.remove(who)
                return SUCCESS_SHARED
            return ERROR

    def forget(self, who: Hashable) -> None:
        """Give back all locks of a client that is gone."""
        while self.release(who) != ERROR:
            pass

    def _free_for(self, who: Hashable) -> bool:
        if self._exclusive is not None:
            return self._exclusive == who
        return not self._shared or who in self._shared

    def _grantable(self, who: Hashable, key: bytes) -> bool:
        if self._exclusive is not None:
            return False
        if key:
            return not self._shared or key == self._key
        return not self._shared or who in self._shared
