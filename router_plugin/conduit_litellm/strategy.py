"""The routing strategy: LiteLLM asks which healthy deployment is to serve, the newest snapshot answers."""

import asyncio
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from litellm.types.router import CustomRoutingStrategyBase
from pydantic import ValidationError

from conduit_litellm.decisions.facts import Facts
from conduit_litellm.decisions.judgements import Judgement
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events.connectivity import LogState
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_litellm.events.spool import Spool, spool_folder
from conduit_litellm.feedback.answer_checks import AnswerChecks, signal_values
from conduit_litellm.feedback.judge import Judge
from conduit_litellm.feedback.outcomes import OutcomeRecorder
from conduit_litellm.feedback.recorder import About, FeedbackRecorder
from conduit_litellm.feedback.validators import validators_of
from conduit_litellm.litellm_compat import RouterSlot, calling_object, is_filled_by
from conduit_litellm.litellm_compat.callbacks import CallbackLogger
from conduit_litellm.litellm_compat.models import ask_model
from conduit_litellm.litellm_compat.prices import price_of
from conduit_litellm.litellm_compat.requests import LiteLLMRequest
from conduit_litellm.litellm_compat.responses import origin_of, origins_in_proxy
from conduit_litellm.routing.directives import Directives, own_settings
from conduit_litellm.routing.policy_cache import PolicyCache
from conduit_litellm.routing.request import Deployment
from conduit_litellm.routing.selection import DeploymentSelection, Selector
from conduit_litellm.runtime import embedded_learner
from conduit_litellm.runtime.background import BackgroundThread
from conduit_litellm.runtime.log_service import serve_log
from conduit_log import LogSettings, open_log
from conduit_policy import Featurizer, Objective, algorithm, featurizer_of
from conduit_schemas import ConfigurationError, LearningSettings

__all__ = ["ConduitRoutingStrategy"]


class ConduitRoutingStrategy(CustomRoutingStrategyBase):
    """Routes each request to the deployment that is expected to serve it best, and learns from what happens.

    The deployments to choose from are LiteLLM's own healthy list of the request, so cooldowns, fallbacks,
    retries, access rules and every other filter work as before. While nothing has been learned, whenever
    the learner has been silent for too long, and on any error of Conduit's own, LiteLLM's configured
    ``routing_strategy`` serves the request; :attr:`counters` says how often and why.

    Deployment weights, and strategies of routing groups, govern only what is left to LiteLLM; but a deployment of
    weight 0 gets no traffic at all. An auto router and LiteLLM's own routing plugins come first, as ever, and
    decide what there is to choose from. A request that names its deployment gets it, and nothing is learned from it.

    Parameters
    ----------
    bandit_algorithm
        How to learn and explore: ``contextual_thompson``, ``linucb``, ``thompson``, ``ucb1``,
        ``epsilon_greedy`` and others; see :data:`conduit_policy.ALGORITHMS`.
    lambda_reg
        Ridge regularisation of the learner's models, in observations.
    window_size
        Outcomes per deployment that are remembered; older ones fade.
    params
        The algorithm's own parameters; those left out take its defaults.
    priors
        What is known of deployments beforehand, by id: ``{"new": {"quality": 0.8, "observations": 30}}``; also
        ``success``, ``cost_usd``, ``latency_s``. See :class:`conduit_schemas.ArmPrior`.
    renamed
        From old ids of deployments to new ones: what was learned of the old one goes to the new one.
    objective
        What is wanted: ``balanced``, ``quality``, ``cost``, ``speed``, or an
        :class:`~conduit_policy.Objective` with weights of its own.
    constraints
        Limits: ``max_cost_usd`` of a request, ``max_latency_s``, ``budget`` (``{"usd": 25, "per": "day"}`` or ``"per":
        "1000_requests"``), ``quality_floor`` (``{"relative": 0.95, "confidence": 0.95}``).
    overrides
        Other goals for some: ``{"team:growth": {"objective": "cost"}, "key:ci": {"max_cost_usd": 0.001}}``.
    mode
        Who chooses: ``off`` and ``shadow`` leave it to LiteLLM, the latter noting what Conduit would have done;
        ``canary`` gives Conduit a share; ``active`` all.
    rollout
        The rest of :class:`conduit_schemas.RoutingSettings`: ``canary_share``, ``sticky_by``, ``min_exploration``,
        ``automatic``, ``session_stickiness``, ``switching_cost``. Of all these an operator's settings, made with
        ``conduit routing set``, take the place.
    namespace
        Separates installations that share a log: a policy is a model group in a namespace.
    model_groups
        The model groups to manage; by default all. LiteLLM serves the others as it would without Conduit.
    log
        Address of the event log, such as ``kafka://host:port``, ``file:///folder`` or one of an adapter of your own; by
        default ``CONDUIT_LOG``. Without any, and without brokers, the log is a file on this machine.
    bootstrap_servers
        ``host:port`` of Kafka brokers, separated by commas: the same as an address of theirs; by default
        ``CONDUIT_BOOTSTRAP_SERVERS``.
    log_path
        Folder of the file, and of what waits for a log elsewhere; by default ``CONDUIT_HOME`` or ``~/.conduit``.
    topic_prefix
        What the topics' names start with; by default ``CONDUIT_TOPIC_PREFIX`` or ``conduit``.
    kafka_options
        Security settings for the Kafka clients; see :class:`conduit_log.LogSettings`.
    featurizer
        Turns a request into the context the policy learns from; by default text and structure, 64 numbers.
    max_snapshot_age_s
        Seconds without a sign of the log, or of a learner at work, after which LiteLLM serves again.
    queue_size
        Events that may wait in memory for the log; beyond it the newest are dropped and counted.
    spool_path
        Folder in which events wait while Kafka, or another log that can be out of reach, is away, and outlive this
        process; by default ``spool`` in the folder of ``log_path``. The embedded log, on the disk itself, has none.
    spool_limit_bytes
        What the spool may take of the disk, for all processes of this machine together; 0 for memory alone.
    host_learner
        Whether this process may host the learner, where the log allows it, as the embedded one does. One process per
        log hosts it; when that ends, another one takes over. Needs ``pip install 'conduit-litellm[learner]'``.

    implicit_signals
        Whether answers that are empty, cut off, no JSON where JSON was asked for, or soon asked for again count as
        failed in part; or by name how much of a success each still is. Answers are looked at in a thread of its own.
    validators
        Checks of one's own on every answer, by name: a function of an
        :class:`~conduit_litellm.feedback.answers.Answer`, a JSON schema, or ``"package.module:function"``.
    judge
        A model, or a function, that judges a sample of the answers; see :class:`~conduit_litellm.Judge`.

    Raises
    ------
    ConfigurationError
        When a setting is out of range or names something that does not exist.

    Examples
    --------
    >>> strategy = ConduitRoutingStrategy(bandit_algorithm="linucb", objective="cost", host_learner=False)
    >>> strategy.settings.algorithm, strategy.counters["fallbacks"]
    ('linucb', 0)
    """

    def __init__(
        self,
        bandit_algorithm: str = "contextual_thompson",
        lambda_reg: float = 1.0,
        window_size: int = 2000,
        *,
        params: Mapping[str, float] | None = None,
        priors: Mapping[str, Mapping[str, float]] | None = None,
        renamed: Mapping[str, str] | None = None,
        objective: str | Objective = "balanced",
        constraints: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        mode: str = "active",
        rollout: Mapping[str, Any] | None = None,
        namespace: str = "default",
        model_groups: Iterable[str] | None = None,
        log: str | None = None,
        bootstrap_servers: str | None = None,
        log_path: str | os.PathLike[str] | None = None,
        topic_prefix: str | None = None,
        kafka_options: Mapping[str, Any] | None = None,
        featurizer: str | Featurizer | None = None,
        max_snapshot_age_s: float = 900.0,
        queue_size: int = 100_000,
        spool_path: str | os.PathLike[str] | None = None,
        spool_limit_bytes: int = 1 << 30,
        host_learner: bool = True,
        implicit_signals: bool | Mapping[str, float] = True,
        validators: Mapping[str, Any] | None = None,
        judge: Judge | None = None,
    ) -> None:
        if not max_snapshot_age_s > 0.0 or queue_size < 1:
            raise ConfigurationError("max_snapshot_age_s and queue_size must be above 0")
        if spool_limit_bytes < 0:
            raise ConfigurationError(f"spool_limit_bytes={spool_limit_bytes} must not be below 0")
        if isinstance(model_groups, str):
            raise ConfigurationError(f"model_groups={model_groups!r} must be a list of names")
        seeing = featurizer_of(featurizer)
        self.settings = _learning_settings(
            algorithm=bandit_algorithm,
            params=dict(params or {}),
            priors=None if priors is None else {arm: dict(prior) for arm, prior in priors.items()},
            renamed=None if renamed is None else dict(renamed),
            lambda_reg=lambda_reg,
            window_size=window_size,
            featurizer=seeing.name,
            dimension=seeing.dimension,
        )
        self.log_settings = LogSettings.resolve(
            log=log,
            bootstrap_servers=bootstrap_servers,
            path=None if log_path is None else Path(log_path).expanduser(),
            prefix=topic_prefix,
            kafka=None if kafka_options is None else dict(kafka_options),
        )
        # Impossible settings are refused here and now; the log itself is entered in the background.
        capabilities = open_log(self.log_settings).capabilities
        self.counters = Counters()
        self._state = LogState()
        self._ledger = Ledger()
        self._policies = PolicyCache(max_age_s=max_snapshot_age_s, counters=self.counters, state=self._state)
        spools = capabilities.needs_spool and spool_limit_bytes > 0
        spool = spool_folder(self.log_settings, None if spool_path is None else Path(spool_path).expanduser())
        self._emitter = Emitter(
            ledger=self._ledger,
            counters=self.counters,
            state=self._state,
            limit=queue_size,
            delivered=self._policies.delivered,
            spool=Spool(spool, spool_limit_bytes) if spools else None,
        )
        own, objective = own_settings(objective, constraints, overrides, mode, rollout)
        self._directives = Directives(own, objective, self.counters)
        self._checks = AnswerChecks(
            signals=signal_values(implicit_signals),
            validators=validators_of(validators),
            judge=judge,
            ledger=self._ledger,
            emitter=self._emitter,
            counters=self.counters,
            ask_model=ask_model,
        )
        self._outcomes = OutcomeRecorder(self._ledger, self._emitter, self.counters, paid=self._directives.paid)
        self._callbacks = CallbackLogger(self._outcomes, self._checks, self.counters)
        self._feedback = FeedbackRecorder(self._ledger, self._emitter, self.counters)
        self._service = BackgroundThread("conduit-log", self._serve_log, forked=self._forked)
        self._selector = Selector(
            settings=self.settings,
            featurizer=seeing,
            directives=self._directives,
            namespace=namespace,
            model_groups=None if model_groups is None else frozenset(model_groups),
            policies=self._policies,
            ledger=self._ledger,
            emitter=self._emitter,
            counters=self.counters,
            price_of=price_of,
        )
        hosts = host_learner and capabilities.hosts_learner
        self._learner = embedded_learner.host_learner(self.log_settings) if hosts else None

    @property
    def get_available_deployment(self) -> Any:
        """What LiteLLM calls for a synchronous request; whoever asks for it becomes its router."""
        return self._slot().get_available_deployment

    @property
    def async_get_available_deployment(self) -> Any:
        """What LiteLLM calls for an asynchronous request; whoever asks for it becomes its router."""
        return self._slot().async_get_available_deployment

    def install(self, router: Any) -> None:
        """Make this the routing strategy of a router; one strategy may serve several.

        ``router.set_custom_routing_strategy(strategy)`` and, from LiteLLM 1.109 on,
        ``router.register_plugin(strategy)`` do the same.
        """
        self._new_slot().install(router)

    def is_installed_on(self, router: Any) -> bool:
        """Say whether a router has this as its routing strategy; a change of its settings takes it away."""
        return is_filled_by(router, self._new_selection)

    def choose(
        self,
        model_group: str,
        deployments: Sequence[Mapping[str, Any]],
        messages: Any = None,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """Choose among deployments for a call that is made without LiteLLM's Router.

        Where nothing has been learned, each is as likely as the others. How the call went has to be said with
        :meth:`record_outcome`.

        Parameters
        ----------
        model_group
            What names the policy.
        deployments
            At least one, each with ``litellm_params["model"]`` and ``model_info["id"]``.
        messages
            The request, as OpenAI's API has it.
        request_kwargs
            The request's other arguments; the decision's id is put into their ``metadata``.
        """
        attempt, request = self._new_selection(), LiteLLMRequest(request_kwargs, messages)
        offered = cast("Sequence[Deployment]", deployments)
        picked = attempt.pick(model_group, list(offered), request)
        chosen = picked or random.choice(offered)
        attempt.finish(chosen, request)
        return chosen

    def record_outcome(self, decision_id: str, facts: Facts, source: str) -> None:
        """Say how the call of one of this process's decisions went; the first report of a decision counts."""
        decision = self._ledger.get(decision_id)
        if decision is not None and not decision.has_outcome:
            self._outcomes.record_outcome(decision, facts, source)

    async def record_feedback(
        self,
        deployment_id: str,
        cost: float | None = None,
        latency: float | None = None,
        quality_score: float | None = None,
        error: BaseException | str | bool | None = None,
        *,
        decision_id: str | None = None,
    ) -> str | None:
        """Report how good an answer was and, for calls made without LiteLLM, how they went.

        The report goes to the decision with the given id; without one, to the newest decision of the
        running task if it is for this deployment; otherwise to the newest decision for this deployment
        that has no feedback yet. Only the id is certain where requests run concurrently. What LiteLLM itself
        observed of cost, latency and errors is preferred over what is reported here.

        Parameters
        ----------
        deployment_id
            The deployment's ``model_info["id"]``; responses carry it as ``_hidden_params["model_id"]``.
        cost
            US dollars.
        latency
            Seconds from the call to the last byte.
        quality_score
            0 (useless) to 1 (perfect).
        error
            What went wrong, if anything: an exception, its name, or True.
        decision_id
            The decision this is about; see :meth:`decision_id`.

        Returns
        -------
        str or None
            The decision's id; None when no decision fits, which is counted and logged once.

        Raises
        ------
        ValueError
            When a number is out of range.
        """
        return self._feedback.record(deployment_id, cost, latency, quality_score, error=error, decision_id=decision_id)

    def rate(
        self,
        quality: float | Judgement,
        *,
        decision_id: str | None = None,
        call_id: str | None = None,
        trace_id: str | None = None,
        policy: str | None = None,
        source: str = "app",
        key: str = "",
    ) -> str | None:
        """Report what somebody, or something, thought of an answer.

        Parameters
        ----------
        quality
            0 (useless) to 1 (perfect), or what :func:`~conduit_litellm.thumbs`, :func:`~conduit_litellm.rating`,
            :func:`~conduit_litellm.edited` or :func:`~conduit_litellm.regenerated` make of other forms.
        decision_id, call_id, trace_id
            The decision, or LiteLLM's id of the call, or of the trace, whose newest decision is meant. Of a request
            whose first attempts failed, each means the last.
        policy
            The policy that made the decision; needed where another process made it.
        source
            Who says so: the app, a judge, a validator, a person.
        key
            Tells several ratings by one source apart. Each counts once per decision, source and key.

        Returns
        -------
        str or None
            The decision's id; None when this process does not know the decision and no policy is given.

        Raises
        ------
        ValueError
            When the quality is out of range.
        """
        judgement = quality if isinstance(quality, Judgement) else Judgement(quality, source=source, key=key)
        return self._feedback.record_rating(judgement, About(decision_id, call_id, trace_id, policy))

    def decision_id(self, response: object = None) -> str | None:
        """Return the id of the decision behind a response or a stream, or None when it cannot be told.

        Without a response, return that of the newest decision made in the running task or thread.
        """
        return self._feedback.decision_of(None if response is None else origin_of(response))

    def decision_behind(self, arguments: Mapping[str, Any], response: object) -> Decision | None:
        """Return the decision behind a proxied request, given its arguments and the response if there is one.

        The arguments alone may name an earlier attempt's, since LiteLLM works on copies of them after a fallback.
        """
        return self._feedback.decision_behind(origins_in_proxy(arguments, response))

    @property
    def events_waiting(self) -> int:
        """Events that the log has not confirmed yet, in memory and on the disk."""
        return self._emitter.waiting

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver the events that wait, for at most ``timeout_s`` seconds, and stop learning.

        What Kafka has not taken by then stays in the spool, for the next process on this machine. Called at the end
        of the process by itself. Requests are served afterwards, too, without being noted.
        """
        self._checks.close(timeout_s)
        self._emitter.close()
        if self._learner is not None:
            self._learner.tell_to_stop()
        self._service.close(timeout_s)
        if self._learner is not None:
            self._learner.close(timeout_s)

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Do what :meth:`close` does without blocking the event loop."""
        await asyncio.to_thread(self.close, timeout_s)

    def _slot(self) -> RouterSlot:
        router = calling_object()
        slot = self._new_slot(router)
        slot.enter_if_rust(router)
        return slot

    def _new_slot(self, hint: object = None) -> RouterSlot:
        self._callbacks.register()
        return RouterSlot(self._new_selection, hint)

    def _new_selection(self) -> DeploymentSelection:
        self._callbacks.register()
        self._service.start()
        if self._learner is not None:
            self._learner.start()
        return DeploymentSelection(self._selector)

    async def _serve_log(self, stop: asyncio.Event) -> None:
        await serve_log(self.log_settings, self._emitter, self._policies.run, stop)

    def _forked(self) -> None:
        self._emitter.reset()
        self._selector.reset()


def _learning_settings(**fields: Any) -> LearningSettings:
    try:
        settings = LearningSettings(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{where}={first['input']!r}: {first['msg']}") from error
    algorithm(settings)  # refuses a name or a parameter that does not exist
    return settings
