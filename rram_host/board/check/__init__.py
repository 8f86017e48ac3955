"""Checking a program before it touches the board: `check_program`, and the limits it is held to."""

from rram_host.board.check.limits import Limits
from rram_host.board.check.program_check import ProgramCheck, Violation, check_program

__all__ = ["Limits", "ProgramCheck", "Violation", "check_program"]
