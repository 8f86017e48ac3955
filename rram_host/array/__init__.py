"""The array in siemens, volts and amperes: form, set, reset, read, program, multiply."""
