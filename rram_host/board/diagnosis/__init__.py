"""Diagnosis: measure a board from its own programs and codes, and name the part that is at fault.

The order is such that nothing is trusted before it was tested, and nothing is risked on a line
that was not: DAC links; amplifiers and ADCs with all gates closed; then weakly open gates, at
which a cell carries a few microamperes whatever a wrong line does to it; strong gates only when
every bit line follows its DAC.
"""

from rram_host.board.diagnosis.findings import KINDS, Check, Diagnosis, Finding
from rram_host.board.diagnosis.run import diagnose

__all__ = ["KINDS", "Check", "Diagnosis", "Finding", "diagnose"]
