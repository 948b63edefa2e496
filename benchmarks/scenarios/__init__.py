"""How well Conduit follows a world that changes: recorded outcomes, bent at a known moment.

``python -m benchmarks.scenarios --data DIR`` replays the prompts of a folder like :mod:`benchmarks.quality` does, with
the same policies and delays, but something happens on the way: a model becomes worse without telling, prices change,
a deployment fails and comes back, a new one appears, one is taken away, or other prompts come. What is counted is
the utility lost against whoever knows each part's best model, and the decisions until that loss is as before.
"""
