"""Checks for algorithms of your own, the same that Conduit's own pass."""
