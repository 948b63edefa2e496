"""The routing strategy: LiteLLM asks which healthy deployment should serve, and the newest snapshot answers."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from litellm.types.router import CustomRoutingStrategyBase

from conduit_litellm.decisions.facts import Facts
from conduit_litellm.decisions.judgements import Judgement
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events.connectivity import LogState
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_litellm.events.spool import Spool, spool_folder
from conduit_litellm.feedback.answer_checks import AnswerChecks, sign_values
from conduit_litellm.feedback.outcomes import OutcomeRecorder
from conduit_litellm.feedback.recorder import About, FeedbackRecorder
from conduit_litellm.feedback.validators import validators_of
from conduit_litellm.litellm_compat import RouterSlot, calling_object, is_filled_by
from conduit_litellm.litellm_compat.callbacks import CallbackLogger
from conduit_litellm.litellm_compat.models import ask_model
from conduit_litellm.litellm_compat.prices import price_of
from conduit_litellm.litellm_compat.requests import LiteLLMRequest
from conduit_litellm.litellm_compat.responses import origin_of, origins_in_proxy
from conduit_litellm.routing.directives import Directives
from conduit_litellm.routing.policy_cache import PolicyCache
from conduit_litellm.routing.request import Deployment
from conduit_litellm.routing.selection import DeploymentSelection, Selector
from conduit_litellm.runtime import embedded_learner
from conduit_litellm.runtime.background import BackgroundThread
from conduit_litellm.runtime.log_service import serve_log
from conduit_litellm.settings import StrategySettings, takes_settings
from conduit_log import LogSettings, open_log
from conduit_policy import Objective, featurizer_of, objective_of

__all__ = ["ConduitRoutingStrategy"]


class ConduitRoutingStrategy(CustomRoutingStrategyBase):
    """Routes each request to the deployment that is expected to serve it best, and learns from the results.

    It chooses from LiteLLM's own list of the deployments that are healthy for the request, so cooldowns, fallbacks,
    retries, access rules and all other filters work as before. As long as nothing has been learned, when the learner
    has been silent for too long, and after any error in Conduit, LiteLLM's configured ``routing_strategy`` serves the
    request; :attr:`counters` says how often and why.

    Deployment weights and the strategies of routing groups apply only when LiteLLM chooses. The exception is a
    deployment of weight 0, which gets no traffic at all. As usual, auto routers and LiteLLM's own routing plugins run
    first and decide what there is to choose from. A request that names its deployment gets it, and nothing is learned
    from that request.

    Parameters
    ----------
    settings
        The fields of :class:`~conduit_litellm.settings.StrategySettings`, as arguments. The first three may be given
        by position, the others only by name. The documentation lists them on its settings page.

    Raises
    ------
    ConfigurationError
        If a setting is out of range, or names something that does not exist.

    Examples
    --------
    >>> strategy = ConduitRoutingStrategy(bandit_algorithm="linucb", objective="cost", host_learner=False)
    >>> strategy.settings.algorithm, strategy.counters["fallbacks"]
    ('linucb', 0)
    """

    @takes_settings(StrategySettings)
    def __init__(self, settings: StrategySettings) -> None:
        featurizer = featurizer_of(settings.featurizer)
        self.settings = settings.learning(featurizer)
        self.log_settings = LogSettings.resolve(
            log=settings.log,
            bootstrap_servers=settings.bootstrap_servers,
            path=_folder(settings.log_path),
            prefix=settings.topic_prefix,
            kafka=None if settings.kafka_options is None else dict(settings.kafka_options),
        )
        # Invalid settings are refused at once. The log itself is opened in the background.
        capabilities = open_log(self.log_settings).capabilities
        self.counters = Counters()
        self._state = LogState()
        self._ledger = Ledger()
        self._policies = PolicyCache(max_age_s=settings.max_snapshot_age_s, counters=self.counters, state=self._state)
        spools = capabilities.needs_spool and settings.spool_limit_bytes > 0
        spool = spool_folder(self.log_settings, _folder(settings.spool_path))
        self._emitter = Emitter(
            ledger=self._ledger,
            counters=self.counters,
            state=self._state,
            limit=settings.queue_size,
            delivered=self._policies.delivered,
            spool=Spool(spool, settings.spool_limit_bytes) if spools else None,
        )
        own = settings.routing()
        self._directives = Directives(own, objective_of(own.goal, Objective()), self.counters)
        self._checks = AnswerChecks(
            signs=sign_values(settings.implicit_signals),
            validators=validators_of(settings.validators),
            judge=settings.judge,
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
            featurizer=featurizer,
            directives=self._directives,
            namespace=settings.namespace,
            model_groups=None if settings.model_groups is None else frozenset(settings.model_groups),
            policies=self._policies,
            ledger=self._ledger,
            emitter=self._emitter,
            counters=self.counters,
            price_of=price_of,
        )
        hosts = settings.host_learner and capabilities.hosts_learner
        self._learner = embedded_learner.host_learner(self.log_settings) if hosts else None

    @property
    def get_available_deployment(self) -> Any:
        """The method that LiteLLM calls for synchronous requests. The object that reads it becomes its router."""
        return self._slot().get_available_deployment

    @property
    def async_get_available_deployment(self) -> Any:
        """The method that LiteLLM calls for asynchronous requests. The object that reads it becomes its router."""
        return self._slot().async_get_available_deployment

    def install(self, router: Any) -> None:
        """Make this the routing strategy of a router. One strategy may serve several routers.

        ``router.set_custom_routing_strategy(strategy)`` and, from LiteLLM 1.109 on,
        ``router.register_plugin(strategy)`` do the same.
        """
        self._new_slot().install(router)

    def is_installed_on(self, router: Any) -> bool:
        """Return whether a router uses this strategy. Changing the router's settings may remove it."""
        return is_filled_by(router, self._new_selection)

    def choose(
        self,
        model_group: str,
        deployments: Sequence[Mapping[str, Any]],
        messages: Any = None,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """Choose a deployment for a call that is made without LiteLLM's Router.

        As long as nothing has been learned, all deployments are equally likely. Report how the call went with
        :meth:`record_outcome`.

        Parameters
        ----------
        model_group
            The name of the group, which the policy is named after.
        deployments
            At least one, each with ``litellm_params["model"]`` and ``model_info["id"]``.
        messages
            The request's messages, in the form of OpenAI's API.
        request_kwargs
            The request's other arguments. The decision's id is added to their ``metadata``.
        """
        attempt, request = self._new_selection(), LiteLLMRequest(request_kwargs, messages)
        offered = cast("Sequence[Deployment]", deployments)
        picked = attempt.pick(model_group, list(offered), request)
        chosen = picked or random.choice(offered)
        attempt.finish(chosen, request)
        return chosen

    def record_outcome(self, decision_id: str, facts: Facts, source: str) -> None:
        """Report how the call that followed one of this process's decisions went. Only the first report counts."""
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
        """Report how good an answer was and, for a call made without LiteLLM, how it went.

        The report is about the decision with the given id. If no id is given, it is about the running task's newest
        decision if that chose this deployment, or else about the newest decision for this deployment that has no
        feedback yet. If requests run concurrently, only the id is certain. Cost, latency and errors that LiteLLM
        itself observed take precedence over those reported here.

        Parameters
        ----------
        deployment_id
            The deployment's ``model_info["id"]``, which responses carry as ``_hidden_params["model_id"]``.
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
            The decision's id. None if no decision matches, which is counted, and logged the first time.

        Raises
        ------
        ValueError
            If a number is out of range.
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
        """Rate an answer, on behalf of a person or a program.

        Parameters
        ----------
        quality
            0 (useless) to 1 (perfect), or what :func:`~conduit_litellm.thumbs`, :func:`~conduit_litellm.rating`,
            :func:`~conduit_litellm.edited` or :func:`~conduit_litellm.regenerated` return for other forms of feedback.
        decision_id, call_id, trace_id
            The decision's id, or LiteLLM's id of the call or of the trace. A trace's id means the trace's newest
            decision. If the first attempts of a request failed, each of the three means the last attempt.
        policy
            The policy that made the decision; needed if another process did.
        source
            Who rates it: the app, a judge, a validator, a person.
        key
            Distinguishes several ratings by the same source. A rating counts once per decision, source and key.

        Returns
        -------
        str or None
            The decision's id. None if this process does not know the decision and no policy is given.

        Raises
        ------
        ValueError
            If the quality is out of range.
        """
        judgement = quality if isinstance(quality, Judgement) else Judgement(quality, source=source, key=key)
        return self._feedback.record_rating(judgement, About(decision_id, call_id, trace_id, policy))

    def decision_id(self, response: object = None) -> str | None:
        """Return the id of the decision behind a response or a stream, or None if it is unknown.

        Without a response, return the id of the newest decision made in the running task or thread.
        """
        return self._feedback.decision_of(None if response is None else origin_of(response))

    def decision_behind(self, arguments: Mapping[str, Any], response: object) -> Decision | None:
        """Return the decision behind a proxied request, given its arguments and, if there is one, the response.

        The arguments alone may name an earlier attempt's decision, because LiteLLM copies them for a fallback.
        """
        return self._feedback.decision_behind(origins_in_proxy(arguments, response))

    @property
    def events_waiting(self) -> int:
        """Number of events that the log has not confirmed yet, in memory and on the disk."""
        return self._emitter.waiting

    @property
    def events_spooled(self) -> int:
        """Number of waiting events that are on the disk."""
        return self._emitter.spooled

    @property
    def log_silence_s(self) -> float:
        """Seconds since the log was last read."""
        return self._policies.silence_s()

    @property
    def snapshots_overdue_s(self) -> dict[str, float]:
        """For every policy, how many seconds delivered events have waited for a newer snapshot."""
        return self._policies.overdue_s()

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver waiting events, for at most ``timeout_s`` seconds, and stop learning.

        Events that Kafka has not accepted by then stay in the spool, and the next process on this machine delivers
        them. This is called automatically when the process ends. Requests made afterwards are still served, but they
        are not recorded.
        """
        self._checks.close(timeout_s)
        self._emitter.close()
        if self._learner is not None:
            self._learner.tell_to_stop()
        self._service.close(timeout_s)
        if self._learner is not None:
            self._learner.close(timeout_s)

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Close as :meth:`close` does, without blocking the event loop."""
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


def _folder(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).expanduser()
