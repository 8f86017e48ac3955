"""The board as an instrument of other people's measurement programs; each needs its own extra."""
