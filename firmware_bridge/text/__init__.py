"""The text dialect: what people and instrument software say to the board."""
