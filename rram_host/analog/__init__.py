"""torch on the array: the base matrices of a model run as analog products."""
