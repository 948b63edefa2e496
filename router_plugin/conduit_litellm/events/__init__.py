"""Events on their way to the log: queue, spool, connectivity, counts."""
