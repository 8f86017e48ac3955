"""Behaviour of each part of the board, file names as in firmware_bridge/chips."""
