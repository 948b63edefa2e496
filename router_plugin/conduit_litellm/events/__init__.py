"""Delivers events to the log: queue, spool, state of the connection, counters."""
