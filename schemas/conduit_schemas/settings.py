"""How one policy learns and explores: the part of its configuration that travels in the log."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from conduit_schemas.fields import MAX_ARMS, MAX_DIMENSION, Id, Label, Probability, Record

__all__ = ["ArmPrice", "ArmPrior", "LearningSettings"]


class ArmPrior(Record):
    """What is known of a deployment beforehand. It counts as some observations that never fade.

    Examples
    --------
    >>> ArmPrior(quality=0.8, observations=30.0).latency_s is None
    True
    """

    quality: Probability | None = None
    success: Probability | None = None
    cost_usd: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Of one request."""
    latency_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    ttft_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    observations: Annotated[float, Field(gt=0.0, le=1e6)] = 20.0
    """As how many requests of this deployment's own it counts, of each signal that is given."""


class ArmPrice(Record):
    """What a deployment charges, USD per million tokens."""

    input: Annotated[float, Field(ge=0.0, le=1e9)]
    output: Annotated[float, Field(ge=0.0, le=1e9)]


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
    featurizer: Label = "text64-v2"
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] = 64
    feedback_window_s: Annotated[float, Field(gt=0.0, le=90 * 86400.0)] = 86400.0
    """How long after a selection, in log time, its outcome and feedback still count."""
    max_open: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Decisions kept open at most; the oldest are closed first."""
    priors: Annotated[dict[Id, ArmPrior], Field(max_length=MAX_ARMS)] | None = None
    """By deployment: what is believed of it before anything was observed."""
    renamed: Annotated[dict[Id, Id], Field(max_length=MAX_ARMS)] | None = None
    """From a deployment's old id to its new one: what was learned of the old one goes to the new one."""
    prices: Annotated[dict[Id, ArmPrice], Field(max_length=MAX_ARMS)] | None = None
    """By deployment: what a new one is expected to cost, and what changes a belief along, without an observation."""

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> Self:
        for old, new in (self.renamed or {}).items():
            if new in (self.renamed or {}):
                raise ValueError(f"renamed: {old!r} becomes {new!r}, which is itself renamed; name the last one")
        return self
