"""One file per experiment: a frozen plan, and functions that run it on an open board."""
