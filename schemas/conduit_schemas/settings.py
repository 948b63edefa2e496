"""How one policy learns and explores: the part of its configuration that travels in the log."""

from typing import Annotated

from pydantic import Field

from conduit_schemas.fields import MAX_DIMENSION, Label, Record

__all__ = ["LearningSettings"]


class LearningSettings(Record):
    """Everything the learner needs to know about a policy; equal settings give equal snapshots.

    Examples
    --------
    >>> LearningSettings(algorithm="linucb", params={"alpha": 0.5}).lambda_reg
    1.0
    """

    algorithm: Label = "contextual_thompson"
    """A name in ``conduit_policy.algorithms``."""
    params: Annotated[dict[Label, float], Field(max_length=16)] = {}
    """The algorithm's own parameters; those left out take its defaults."""
    lambda_reg: Annotated[float, Field(gt=0.0, le=1e6)] = 1.0
    """Ridge regularisation: the precision of the prior, in observations."""
    window_size: Annotated[int, Field(ge=10, le=10_000_000)] = 2000
    """Outcomes per arm that are remembered: older ones fade exponentially with this time constant."""
    featurizer: Label = "text64-v1"
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] = 64
    feedback_window_s: Annotated[float, Field(gt=0.0, le=90 * 86400.0)] = 86400.0
    """How long after a selection, in log time, its outcome and feedback still count."""
    max_open: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Decisions kept open at most; the oldest are closed first."""
