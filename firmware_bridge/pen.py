"""One writer at a time: who holds the pen, and what others may still rely on."""

from __future__ import annotations

from firmware_bridge.errors import ReadOnlyError
from firmware_bridge.sessions import Mark, Role

WRITER_S = 10.0


class StaleError(ReadOnlyError):
    """Somebody else has changed the board since this client wrote last."""


class Pen:
    """Given to the first client that writes; the next one gets it when that one has closed.

    Or when it was silent for `writer_s` seconds while another wants to write. A client whose board
    somebody else has written to since is told so once, before it builds on what is gone.

    Args:
        writer_s: how long a writer may be silent.

    Attributes:
        holder: the writer, if there is one.
    """

    def __init__(self, writer_s: float = WRITER_S) -> None:
        self._writer_s = writer_s
        self.holder: Role | None = None
        self._generation = 0  # changes whenever what a writer relies on may have changed
        self._why = ""

    def take(self, role: Role, mark: Mark, now_s: float) -> None:
        """Let a client write.

        Args:
            role: the client.
            mark: what it relies on.
            now_s: the time.

        Raises:
            ReadOnlyError: another one writes.
            StaleError: something has changed since this mark's last write.
        """
        holder = self.holder
        if holder is not None and holder is not role and now_s - holder.heard_s < self._writer_s:
            raise ReadOnlyError(
                f"{holder.peer} writes; others may read until it closes (which a terminal "
                f"does not show), or is silent for {self._writer_s:g} s"
            )
        self.check(mark)
        if holder is not role:
            self.holder = role
            self.disturb(f"{role.peer} has written")
        mark.generation = self._generation

    def check(self, mark: Mark) -> None:
        """Refuse to go on from what somebody else has changed.

        Raises:
            StaleError: something has changed since this mark's last write.
        """
        if mark.generation not in (None, self._generation):
            raise StaleError(f"{self._why} since this one wrote last; begin anew")

    def disturb(self, why: str) -> None:
        """Note that whoever has written may no longer rely on it."""
        self._generation += 1
        self._why = why

    def give_back(self, role: Role) -> bool:
        """A client is gone; True where it was the writer."""
        if self.holder is not role:
            return False
        self.holder = None
        return True
