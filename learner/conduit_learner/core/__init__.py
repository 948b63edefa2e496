"""The deterministic core: it turns events into state and snapshots, without I/O, clock or random numbers."""
