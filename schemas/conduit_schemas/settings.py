"""How a policy learns and explores: the settings that travel in the log."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from conduit_schemas.fields import MAX_ARMS, MAX_DIMENSION, Id, Label, Probability, Record

__all__ = ["ArmPrice", "ArmPrior", "LearningSettings"]


Regularisation = Annotated[float, Field(gt=0.0, le=1e6)]
WindowSize = Annotated[int, Field(ge=10, le=10_000_000)]


class ArmPrior(Record):
    """What is known about a deployment beforehand. It counts as a number of observations that never fade.

    Examples
    --------
    >>> ArmPrior(quality=0.8, observations=30.0).latency_s is None
    True
    """

    quality: Probability | None = None
    success: Probability | None = None
    cost_usd: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Cost of one request."""
    latency_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    ttft_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    observations: Annotated[float, Field(gt=0.0, le=1e6)] = 20.0
    """How many requests of this deployment the prior counts as, for each signal that is given."""


class ArmPrice(Record):
    """What a deployment charges, USD per million tokens."""

    input: Annotated[float, Field(ge=0.0, le=1e9)]
    output: Annotated[float, Field(ge=0.0, le=1e9)]


class LearningSettings(Record):
    """Everything that determines how a policy learns. Equal settings and events give equal snapshots.

    Examples
    --------
    >>> LearningSettings(algorithm="linucb", params={"alpha": 0.5}).lambda_reg
    1.0
    """

    algorithm: Label = "contextual_thompson"
    """The name of an algorithm: one of :data:`conduit_policy.ALGORITHMS` or a registered one."""
    params: Annotated[dict[Label, float], Field(max_length=16)] = {}
    """The algorithm's parameters. Those left out take their defaults."""
    lambda_reg: Regularisation = 1.0
    """Ridge regularisation: the precision of the prior, in observations."""
    window_size: WindowSize = 2000
    """How many observations per arm are remembered. Older ones fade exponentially with this time constant."""
    featurizer: Label = "text64-v2"
    dimension: Annotated[int, Field(ge=1, le=MAX_DIMENSION)] = 64
    feedback_window_s: Annotated[float, Field(gt=0.0, le=90 * 86400.0)] = 86400.0
    """How long after a selection its outcome and feedback still count, in the log's time."""
    max_open: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """The most decisions that are kept open. The oldest are closed first."""
    priors: Annotated[dict[Id, ArmPrior], Field(max_length=MAX_ARMS)] | None = None
    """By deployment: what is assumed about it before anything is observed."""
    renamed: Annotated[dict[Id, Id], Field(max_length=MAX_ARMS)] | None = None
    """New id of a deployment by its old one. What was learned under the old id is kept under the new one."""
    prices: Annotated[dict[Id, ArmPrice], Field(max_length=MAX_ARMS)] | None = None
    """By deployment. The price says what a new deployment is expected to cost. When it changes, the learned cost
    follows at once, without new observations."""

    @model_validator(mode="after")
    def _renames_are_final(self) -> Self:
        for old, new in (self.renamed or {}).items():
            if new in (self.renamed or {}):
                raise ValueError(
                    f"renamed: {old!r} becomes {new!r}, which is itself renamed; give the final name instead"
                )
        return self
