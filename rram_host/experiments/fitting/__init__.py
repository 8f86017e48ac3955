"""Device parameters out of recorded characterisation runs: the laws of a preset, turned around.

Parameters have the names of a preset of the emulated board; each comes with a standard error that
counts what cells differ by. The README of this folder says which law is fitted to what.
"""
