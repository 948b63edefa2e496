"""All settings of a strategy, each in one place: its name, type, default and bounds, and a sentence on its purpose.

The constructor of :class:`~conduit_litellm.ConduitRoutingStrategy`, the proxy's ``conduit:`` section and environment,
``create_service`` and the page of settings in the documentation all take them from here.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, fields
from functools import update_wrapper
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema
from pydantic.dataclasses import dataclass

from conduit_litellm.feedback.judge import Judge
from conduit_policy import Featurizer, Objective, algorithm, check_routing, objective_of
from conduit_schemas import (
    ConfigurationError,
    LearningSettings,
    Mode,
    RoutingGoal,
    RoutingSettings,
    Weights,
    checked,
    problem_of,
    unknown_name,
)
from conduit_schemas.settings import Regularisation, WindowSize

__all__ = ["SETTINGS", "ObjectiveForm", "StrategySettings", "settings_of", "takes_settings"]

ObjectiveForm = str | Mapping[str, float | str] | Objective | Weights
"""A preset's name, also as ``{"preset": "cost"}``, or weights."""

_LEARNING, _ROUTING = LearningSettings(), RoutingSettings()


def _objective(given: Any) -> Any:
    """Return a preset's name, or the objective with the given weights, in whatever form they were given."""
    if isinstance(given, Objective):
        return given
    goal = checked(RoutingGoal, {"objective": given}, "")
    objective = objective_of(goal, Objective())
    return goal.objective if isinstance(goal.objective, str) else objective


def _names(given: Any) -> Any:
    names = given if given is None or isinstance(given, str) else list(given)
    if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
        raise ValueError("must be a list of names")
    return names


_LIST = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}


@dataclass(
    config=ConfigDict(extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True, allow_inf_nan=False)
)
class StrategySettings:
    """The settings of a strategy. The defaults of nested settings are documented with their own types.

    Examples
    --------
    >>> settings = StrategySettings(objective={"cost": 0.2}, constraints={"quality_floor": "0.9@0.99"})
    >>> settings.objective, settings.routing().goal.quality_floor.confidence
    (Objective(quality=1.0, cost=0.2, latency=0.01, ttft=0.0), 0.99)
    """

    bandit_algorithm: str = _LEARNING.algorithm
    """How to learn and explore: one of Conduit's [algorithms](algorithms.md), or your own."""
    lambda_reg: Regularisation = _LEARNING.lambda_reg
    """Regularisation, in observations: how strongly estimates stay near their starting values until there is
    data."""
    window_size: WindowSize = _LEARNING.window_size
    """Number of observations per deployment that are remembered; [older ones
    fade](algorithms.md#when-a-deployment-changes)."""
    _: KW_ONLY
    params: Annotated[Mapping[str, float] | None, Field(examples=[{"scale": 0.5}])] = None
    """Parameters of the algorithm; those left out keep their defaults."""
    priors: Annotated[
        Mapping[str, Mapping[str, float]] | None, Field(examples=[{"new": {"quality": 0.8, "observations": 30}}])
    ] = None
    """What you already [know about deployments](algorithms.md#deployments-come-and-go), by id: `quality`, `success`,
    `cost_usd`, `latency_s`, `ttft_s`, and how many `observations` this knowledge counts as."""
    renamed: Annotated[Mapping[str, str] | None, Field(examples=[{"old-id": "new-id"}])] = None
    """Maps old deployment ids to new ones: what was learned about the old id is kept under the new one."""
    objective: Annotated[
        ObjectiveForm,
        BeforeValidator(_objective),
        Field(examples=["cost", {"preset": "cost"}, {"quality": 1, "cost": 0.1}, "quality=1,cost=0.1"]),
    ] = "balanced"
    """What to optimise: a [preset](objectives.md#objectives) or weights. A weight that is not named keeps its
    default."""
    constraints: Annotated[
        Mapping[str, Any] | None,
        Field(examples=[{"max_cost_usd": 0.01, "budget": "25/day", "quality_floor": "0.9@0.99"}]),
    ] = None
    """[Limits](objectives.md#limits): `max_cost_usd`, `max_latency_s` and `max_ttft_s` of a request, `budget`,
    `quality_floor`."""
    overrides: Annotated[
        Mapping[str, Mapping[str, Any]] | None, Field(examples=[{"team:growth": {"objective": "cost"}}])
    ] = None
    """Different [goals for single teams or keys](objectives.md#per-team-key-and-request), by `team:NAME` or `key:NAME`:
    an objective, limits, a budget."""
    mode: Mode = _ROUTING.mode
    """Who chooses. With `off`, LiteLLM does; with `shadow`, LiteLLM does too, and Conduit logs what it would have
    chosen; with `canary`, Conduit chooses for a share of the traffic; with `active`, for all of it."""
    rollout: Annotated[Mapping[str, Any] | None, Field(examples=[{"canary_share": 0.1, "sticky_by": "session"}])] = None
    """The rest of the [roll-out](objectives.md#roll-out): `canary_share`, `sticky_by`, `min_exploration`, `automatic`,
    `session_stickiness`, `switching_cost`. An operator's settings replace these, and the objective, the limits and the
    mode as well."""
    namespace: Annotated[str, Field(min_length=1)] = "default"
    """Separates installations that share a log. A policy belongs to one model group in one namespace."""
    model_groups: Annotated[
        Iterable[str] | None, PlainValidator(_names), WithJsonSchema(_LIST), Field(examples=[["chat", "code"]])
    ] = None
    """The model groups that Conduit manages; by default all. LiteLLM serves the others as it would without Conduit."""
    log: Annotated[str | None, Field(examples=["kafka://host:9092", "file:///var/lib/conduit"])] = None
    """The [address](kafka.md#a-log-of-your-own) of any log."""
    bootstrap_servers: Annotated[str | None, Field(examples=["kafka-1:9092,kafka-2:9092"])] = None
    """Kafka brokers. If neither these nor `log` are given, the log is a file on this machine."""
    log_path: str | Path | None = None
    """The folder of the embedded log; `~/.conduit` by default."""
    topic_prefix: Annotated[str | None, Field(examples=["conduit"])] = None
    """Prefix of the topics' names; `conduit` by default."""
    kafka_options: Annotated[Mapping[str, Any] | None, Field(examples=[{"security_protocol": "SSL"}])] = None
    """[Security settings](security.md) of the Kafka clients."""
    featurizer: Annotated[str | Featurizer | None, Field(examples=["text64-v2"])] = None
    """Computes the context from a request; [a name or an object](algorithms.md#a-featurizer-of-your-own), `text64-v2`
    by default."""
    max_snapshot_age_s: Annotated[float, Field(gt=0.0)] = 900.0
    """Seconds that the log or the learner may be silent before LiteLLM chooses again."""
    queue_size: Annotated[int, Field(ge=1)] = 100_000
    """Number of events that may wait in memory. Further ones are dropped and counted."""
    spool_path: str | Path | None = None
    """The folder where events wait while Kafka is unavailable. They survive the end of the process there. By default
    `spool` in the folder `log_path`. The embedded log needs none."""
    spool_limit_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    """Disk space for the spool, for all processes of a machine together. With 0, events wait in memory only."""
    host_learner: bool = True
    """Whether this process may host the embedded log's learner. One process per log hosts it; when that one ends,
    another takes over."""
    implicit_signals: Annotated[bool | Mapping[str, float], Field(examples=[{"empty": 0.0, "retry": 0.5}])] = True
    """Whether an answer [counts as partly failed](feedback.md#without-anybodys-help) if it is empty, cut off, not the
    JSON that was requested, or followed by the same question soon after. A mapping sets, for each of these signs, the
    success (0 to 1) that such an answer counts as."""
    validators: Annotated[Mapping[str, Any] | None, Field(examples=[{"short": "package.module:function"}])] = None
    """Your own checks of every answer, by name: a function, its import path, or a JSON schema."""
    judge: Annotated[Judge | None, Field(examples=[{"model": "openai/gpt-4.1-mini", "share": 0.05}])] = None
    """A model or a function that grades a sample of the answers."""

    def learning(self, featurizer: Featurizer) -> LearningSettings:
        """Return the settings that the learner reads from the log.

        Raises
        ------
        ConfigurationError
            If an algorithm or a parameter does not exist, or a prior is out of range.
        """
        given = {
            "algorithm": self.bandit_algorithm,
            "params": self.params or {},
            "priors": self.priors,
            "renamed": self.renamed,
            "lambda_reg": self.lambda_reg,
            "window_size": self.window_size,
            "featurizer": featurizer.name,
            "dimension": featurizer.dimension,
        }
        learning = checked(LearningSettings, given, "learning")
        algorithm(learning)
        return learning

    def routing(self) -> RoutingSettings:
        """Return the settings for using a policy, which apply as long as no operator has set others.

        Raises
        ------
        ConfigurationError
            If they are contradictory or invalid. The message names the field.
        """
        for name, nested in (
            ("objective", "constraints"),
            *((name, "rollout") for name in ("mode", "goal", "overrides")),
        ):
            if name in (getattr(self, nested) or {}):
                raise ConfigurationError(f"{nested}: {name!r} is a separate setting: give it outside {nested}")
        goal = {**(self.constraints or {}), "objective": self.objective}
        fields = {**(self.rollout or {}), "goal": goal, "overrides": self.overrides or {}, "mode": self.mode}
        routing = checked(RoutingSettings, fields, "routing")
        check_routing(routing)
        return routing


SETTINGS: Mapping[str, Any] = {setting.name: setting.default for setting in fields(StrategySettings)}
"""Every setting's name, in order, with its default."""

SECRETS = frozenset({"kafka_options", "log"})
"""Settings that may hold a password, so no message shows them."""


def settings_of(called: Callable[[str], str], *first: Any, **given: Any) -> StrategySettings:
    """Validate settings that were given as arguments.

    Parameters
    ----------
    called
        Returns the name of a setting as its source spells it, for messages.
    first
        Settings given by position, in order.
    given
        Settings given by name.

    Raises
    ------
    ConfigurationError
        If a setting does not exist, or its value cannot be used.

    Examples
    --------
    >>> settings_of("app.py: {}".format, window_size=3)
    Traceback (most recent call last):
    conduit_schemas.errors.ConfigurationError: app.py: window_size=3: Input should be greater than or equal to 10
    """
    for name in given:
        if name not in SETTINGS:
            raise ConfigurationError(f"{called('').rstrip(': ')}: there is no setting {unknown_name(name, SETTINGS)}")
    try:
        return StrategySettings(*first, **given)
    except ValidationError as error:
        problem = problem_of(error, {**dict(zip(SETTINGS, first, strict=False)), **given}, SECRETS)
        name = next((name for name in SETTINGS if problem.startswith((f"{name}=", f"{name}.", f"{name}:"))), "")
        raise ConfigurationError(f"{called(name)}{problem.removeprefix(name)}") from error


P = ParamSpec("P")


def takes_settings(
    settings: Callable[P, StrategySettings],
) -> Callable[[Callable[[Any, StrategySettings], None]], Callable[Concatenate[Any, P], None]]:
    """Give a constructor the settings as its own arguments, so that people and type checkers see names and types."""

    def decorate(constructor: Callable[[Any, StrategySettings], None]) -> Callable[Concatenate[Any, P], None]:
        def construct(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
            constructor(self, settings_of(f"{type(self).__name__}: {{}}".format, *args, **kwargs))

        own = next(iter(inspect.signature(constructor).parameters.values()))
        taken = inspect.signature(settings).parameters.values()
        update_wrapper(construct, constructor)
        construct.__signature__ = inspect.Signature([own, *taken])  # type: ignore[attr-defined]  # for inspect and help
        return construct

    return decorate
