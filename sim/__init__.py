"""The emulated board, behind the same register window as the silicon."""

from sim.board import EmulatedBoard, Truth, open_url

__all__ = ["EmulatedBoard", "Truth", "open_url"]
