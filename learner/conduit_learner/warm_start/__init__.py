"""Turn existing request logs into events, so that Conduit can learn from traffic before its installation."""
