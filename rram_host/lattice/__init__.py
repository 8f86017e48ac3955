"""Lattice field theory alone: actions, hybrid Monte Carlo, Metropolis, observables, errors."""
