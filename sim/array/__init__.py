"""The array itself: cells that switch and age, and the currents through them."""
