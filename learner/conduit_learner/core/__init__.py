"""The deterministic core: events in, policies' state and snapshots out. No I/O, no clock, no chance."""
