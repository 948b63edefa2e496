"""Routing quality: replay recorded outcomes through Conduit and through alternatives.

``python -m benchmarks.quality --data DIR`` shuffles the prompts of a folder and lets each policy route them, one by
one. The full table of outcomes is known, so all policies are evaluated on the same requests, in the same order, with
the same delays and the same feedback. Conduit runs its shipped code: :class:`conduit_policy.TextFeaturizer` and
:func:`conduit_policy.choose` make the decisions, and their encoded events go through
:class:`conduit_learner.core.partition_learner.PartitionLearner`, whose snapshots are used for the next decisions.

The folder's format is that of :func:`conduit_demo.outcomes.read_outcomes`. From a large folder a random sample of
50,000 prompts is read, and each order samples 5,000 of them (``--max-prompts``). A million prompts therefore need
little more memory than fifty thousand, and one pass over the files.
"""
