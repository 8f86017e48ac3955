"""A lock that is given to those who wait in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """Mutual exclusion, first come, first served.

    `threading.Lock` may be taken again and again by a thread that has just released it, and a
    client that floods the bridge would keep all others waiting.

    >>> lock = FairLock()
    >>> with lock:
    ...     pass
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # released by who hands the lock over

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
