"""How well Conduit routes: a replay of recorded outcomes, against what anybody could run instead.

``python -m benchmarks.quality --data DIR`` puts the prompts of a folder in random order and lets each policy route
them, one by one. The full table of outcomes is known, so the choice of every policy can be judged on the
same requests, in the same order, with the same delays and the same feedback. Conduit's part is the
shipped code: :class:`conduit_policy.TextFeaturizer` and :func:`conduit_policy.choose` decide, encoded events go through
:class:`conduit_learner.core.PartitionLearner`, and its snapshots come back.
"""
