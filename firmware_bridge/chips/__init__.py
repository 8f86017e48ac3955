"""Datasheet facts as pure functions, a file a part. No state, no I/O."""
