"""Every setting of a strategy, once: its name, type, default and bounds, and a sentence that says what it is for.

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

__all__ = ["SETTINGS", "StrategySettings", "settings_of", "takes_settings"]

_LEARNING, _ROUTING = LearningSettings(), RoutingSettings()


def _objective(given: Any) -> Any:
    """Return a preset's name, or an objective of whatever form weights were given in."""
    if isinstance(given, Objective):
        return given
    goal = checked(RoutingGoal, {"objective": given}, "it")
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
    """The settings of a strategy. What is left out of nested ones is documented with their own types.

    Examples
    --------
    >>> settings = StrategySettings(objective={"cost": 0.2}, constraints={"quality_floor": "0.9@0.99"})
    >>> settings.objective, settings.routing().goal.quality_floor.confidence
    (Objective(quality=1.0, cost=0.2, latency=0.01, ttft=0.0), 0.99)
    """

    bandit_algorithm: str = _LEARNING.algorithm
    """How to learn and explore: an [algorithm](algorithms.md) of Conduit's, or one of your own."""
    lambda_reg: Regularisation = _LEARNING.lambda_reg
    """Regularisation, in observations: how strongly estimates are held near their starting point until there is
    data."""
    window_size: WindowSize = _LEARNING.window_size
    """How many observations per deployment are remembered; [older ones
    fade](algorithms.md#when-a-deployment-changes)."""
    _: KW_ONLY
    params: Annotated[Mapping[str, float] | None, Field(examples=[{"scale": 0.5}])] = None
    """The algorithm's own parameters; those left out keep their defaults."""
    priors: Annotated[
        Mapping[str, Mapping[str, float]] | None, Field(examples=[{"new": {"quality": 0.8, "observations": 30}}])
    ] = None
    """What you already [know about deployments](algorithms.md#deployments-come-and-go), by id: `quality`, `success`,
    `cost_usd`, `latency_s`, and as how many `observations` it counts."""
    renamed: Annotated[Mapping[str, str] | None, Field(examples=[{"old-id": "new-id"}])] = None
    """From old ids of deployments to new ones: what was learned of the old one goes to the new one."""
    objective: Annotated[
        str | Mapping[str, float] | Objective | Weights,
        BeforeValidator(_objective),
        Field(examples=["cost", {"quality": 1, "cost": 0.1}, "quality=1,cost=0.1"]),
    ] = "balanced"
    """What is wanted: a [preset](objectives.md), `quality`, `balanced`, `cost` or `speed`, or weights. Those that a
    mapping leaves out are as usual, those that a text leaves out are 0."""
    constraints: Annotated[
        Mapping[str, Any] | None,
        Field(examples=[{"max_cost_usd": 0.01, "budget": "25/day", "quality_floor": "0.9@0.99"}]),
    ] = None
    """[Limits](objectives.md#limits): `max_cost_usd` of a request, `max_latency_s`, `budget`, `quality_floor`."""
    overrides: Annotated[
        Mapping[str, Mapping[str, Any]] | None, Field(examples=[{"team:growth": {"objective": "cost"}}])
    ] = None
    """Other [goals for some](objectives.md#per-team-key-and-request), by `team:` or `key:`: an objective, limits, a
    budget."""
    mode: Mode = _ROUTING.mode
    """Who chooses: `off` and `shadow` leave it to LiteLLM, the latter noting what Conduit would have done; `canary`
    gives Conduit a share; `active` everything."""
    rollout: Annotated[Mapping[str, Any] | None, Field(examples=[{"canary_share": 0.1, "sticky_by": "session"}])] = None
    """The rest of the [roll-out](objectives.md#roll-out): `canary_share`, `sticky_by`, `min_exploration`, `automatic`,
    `session_stickiness`, `switching_cost`. An operator's settings take the place of these, the objective, the limits
    and the mode."""
    namespace: Annotated[str, Field(min_length=1)] = "default"
    """Separates installations that share a log: a policy is a model group in a namespace."""
    model_groups: Annotated[
        Iterable[str] | None, PlainValidator(_names), WithJsonSchema(_LIST), Field(examples=[["chat", "code"]])
    ] = None
    """The model groups to manage, all by default; LiteLLM serves the others as it would without Conduit."""
    log: Annotated[str | None, Field(examples=["kafka://host:9092", "file:///var/lib/conduit"])] = None
    """Any log by its [address](kafka.md#a-log-of-your-own)."""
    bootstrap_servers: Annotated[str | None, Field(examples=["kafka-1:9092,kafka-2:9092"])] = None
    """Kafka brokers. Without brokers and address, the log is a file on this machine."""
    log_path: str | Path | None = None
    """The folder of the embedded log; `~/.conduit` by default."""
    topic_prefix: Annotated[str | None, Field(examples=["conduit"])] = None
    """What the topics' names start with; `conduit` by default."""
    kafka_options: Annotated[Mapping[str, Any] | None, Field(examples=[{"security_protocol": "SSL"}])] = None
    """[Security settings](security.md) for the Kafka clients."""
    featurizer: Annotated[str | Featurizer | None, Field(examples=["text64-v2"])] = None
    """Computes the context from a request: [a name or an object](algorithms.md#a-featurizer-of-your-own); `text64-v2`
    by default."""
    max_snapshot_age_s: Annotated[float, Field(gt=0.0)] = 900.0
    """How many seconds the log or the learner may be silent before LiteLLM chooses again."""
    queue_size: Annotated[int, Field(ge=1)] = 100_000
    """How many events may wait in memory; beyond it the newest are dropped and counted."""
    spool_path: str | Path | None = None
    """The folder in which events wait while Kafka is away, and outlive the process; by default `spool` in the folder of
    `log_path`. The embedded log needs none."""
    spool_limit_bytes: Annotated[int, Field(ge=0)] = 1 << 30
    """What the spool may take of the disk, for all processes of a machine together; 0 for memory alone."""
    host_learner: bool = True
    """Whether this process may host the embedded log's learner. One process per log does; when it ends, another one
    takes over."""
    implicit_signals: Annotated[bool | Mapping[str, float], Field(examples=[{"empty": 0.0, "retry": 0.5}])] = True
    """Whether answers that are empty, cut off, no JSON where JSON was asked for, or soon asked for again [count as
    failed in part](feedback.md#without-anybodys-help); or by name how much of a success each still is."""
    validators: Annotated[Mapping[str, Any] | None, Field(examples=[{"short": "package.module:function"}])] = None
    """Checks of your own on every answer, by name: a function, where one stands, or a JSON schema."""
    judge: Annotated[Judge | None, Field(examples=[{"model": "openai/gpt-4.1-mini", "share": 0.05}])] = None
    """A model, or a function, that judges a sample of the answers."""

    def learning(self, featurizer: Featurizer) -> LearningSettings:
        """Return the part that travels in the log for the learner.

        Raises
        ------
        ConfigurationError
            When it names an algorithm or a parameter that does not exist, or a prior is out of range.
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
        """Return the part that says how policies are to be used, while no operator says otherwise.

        Raises
        ------
        ConfigurationError
            When it makes no sense; the message names the field.
        """
        for name, nested in (
            ("objective", "constraints"),
            *((name, "rollout") for name in ("mode", "goal", "overrides")),
        ):
            if name in (getattr(self, nested) or {}):
                raise ConfigurationError(f"{nested}: {name!r} does not belong there: it is a setting of its own")
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
    """Return the settings that somebody gave, the first ones perhaps by position.

    Parameters
    ----------
    called
        Returns what a setting is called where it was given, for messages.

    Raises
    ------
    ConfigurationError
        When a setting does not exist or its value cannot be used.

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
    """Give a constructor the settings' names, types and defaults as its own arguments, for people and type checkers."""

    def decorate(constructor: Callable[[Any, StrategySettings], None]) -> Callable[Concatenate[Any, P], None]:
        def construct(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> None:
            constructor(self, settings_of(f"{type(self).__name__}: {{}}".format, *args, **kwargs))

        own = next(iter(inspect.signature(constructor).parameters.values()))
        taken = inspect.signature(settings).parameters.values()
        update_wrapper(construct, constructor)
        construct.__signature__ = inspect.Signature([own, *taken])  # type: ignore[attr-defined]  # for inspect and help
        return construct

    return decorate
