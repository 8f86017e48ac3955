"""Weights to conductances and back: schemes, and placement of matrices on arrays."""
