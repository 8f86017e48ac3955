"""Normalizing flows for lattice fields: couplings, training, sampling, checkpoints."""
