"""The sampling service: draws in batches, an exact chain, one run file, figures with errors."""
