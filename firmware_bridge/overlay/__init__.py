"""What `pynq.Overlay` must know of the programmable logic: a handoff file, and its maker."""
