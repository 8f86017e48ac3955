"""Above the registers: running programs, driving lines, codes to amperes, limits, self-test."""
