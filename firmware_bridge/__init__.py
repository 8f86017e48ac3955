"""The contract between host and board, and what runs beside the board.

Needs Python 3.10 and numpy alone, so that the same code runs on the Zynq's own Linux.
"""
