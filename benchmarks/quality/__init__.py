"""How well Conduit routes: a replay of recorded outcomes, against what anybody could run instead.

``python -m benchmarks.quality --data DIR`` puts the prompts of a folder in random order and lets each policy route
them, one by one. The full table of outcomes is known, so the choice of every policy can be judged on the
same requests, in the same order, with the same delays and the same feedback. Conduit's part is the
shipped code: :class:`conduit_policy.TextFeaturizer` and :func:`conduit_policy.choose` decide, encoded events go through
:class:`conduit_learner.core.partition_learner.PartitionLearner`, and its snapshots come back.

The folder's format is that of :func:`conduit_demo.outcomes.read_outcomes`. Of large folders 50,000 prompts are read,
drawn at random, and each order draws 5,000 of them (``--max-prompts``), so a million prompts take little more memory
than fifty thousand, and one pass over the files.
"""
