"""Adaptation to change: recorded outcomes that are altered at a known moment.

``python -m benchmarks.scenarios --data DIR`` replays the prompts of a folder as :mod:`benchmarks.quality` does, with
the same policies and delays, but something changes on the way: a model becomes worse without notice, prices change, a
deployment fails and recovers, a new one appears, one is removed, or other prompts arrive. The results are the utility
lost against always using each part's best model, and the number of decisions until the loss is back to normal.
"""
