"""Figures 3 and 4 of arXiv 2509.12812, as far as a machine without the chip can make them."""
