"""Checks for your own algorithms and featurizers. Conduit's own pass the same ones."""
