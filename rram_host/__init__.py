"""The lab computer's side of the RRAM bench stack."""

from rram_host.errors import RramError
from rram_host.session import Board, open_board

__all__ = ["Board", "RramError", "open_board"]
