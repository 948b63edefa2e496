"""Checks for algorithms and featurizers of your own, the same that Conduit's own pass."""
