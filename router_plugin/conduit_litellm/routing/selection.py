"""One selection: chooses among LiteLLM's healthy deployments, and queues the choice for the log."""

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from conduit_litellm.decisions.directive import Directive
from conduit_litellm.decisions.drafts import ChangeDraft, SelectionDraft, attempts_of_request
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.decisions.tracing import annotate_span
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_litellm.routing.directives import Directives
from conduit_litellm.routing.policy_cache import PolicyCache
from conduit_litellm.routing.price_list import PriceList
from conduit_litellm.routing.request import Deployment, RoutingRequest
from conduit_policy import Beliefs, Choice, Featurizer, choose
from conduit_schemas import ArmPrice, Fallback, LearningChange, LearningSettings, RoutingChange, policy_name
from conduit_schemas.fields import MAX_ARMS

__all__ = ["DeploymentSelection", "Selector"]

_logger = logging.getLogger("conduit")


class Selector:
    """What all selections of one strategy share."""

    def __init__(
        self,
        *,
        settings: LearningSettings,
        featurizer: Featurizer,
        directives: Directives,
        namespace: str,
        model_groups: frozenset[str] | None,
        policies: PolicyCache,
        ledger: Ledger,
        emitter: Emitter,
        counters: Counters,
        price_of: Callable[[Deployment], ArmPrice | None],
    ) -> None:
        self.settings = settings
        self._price_of = price_of
        self.featurizer = featurizer
        self.directives = directives
        self.namespace = namespace
        self.model_groups = model_groups
        self.policies = policies
        self.ledger = ledger
        self.emitter = emitter
        self.counters = counters
        self.reset()

    def reset(self) -> None:
        """Start a new series of decision ids, and introduce every policy to the log again."""
        self._names: dict[str, str] = {}
        self._prices = PriceList(self.settings, self._price_of)
        self._rated: set[str] = set()
        self._unrated: set[str] = set()
        self._prefix = os.urandom(8).hex()
        self._numbers = count()

    def decision_id(self) -> str:
        """Return a new id. Its random prefix distinguishes processes."""
        return f"{self._prefix}{next(self._numbers):08x}"

    def policy(self, group: str, deployments: Sequence[Deployment] = ()) -> str:
        """Return the policy of a model group.

        The first call for a group logs its learning and routing settings. Later calls log the learning
        settings again if prices have changed.
        """
        name = self._names.get(group)
        is_new = name is None
        if name is None:
            name = self._names[group] = policy_name(self.namespace, group)
        settings = self._prices.changed(name, deployments, time.monotonic())
        if is_new or settings is not None:
            now, who = time.time(), f"{platform.node()}:{os.getpid()}"[:256]
            settings = settings or self.settings
            self._introduce(LearningChange(policy=name, time=now, settings=settings, changed_by=who))
        if is_new:
            own = self.directives.own
            self._introduce(RoutingChange(policy=name, time=now, routing=own, origin="application", changed_by=who))
        return name

    def _introduce(self, change: LearningChange | RoutingChange) -> None:
        # Without its settings, a policy would be learned or used in another way than the application asked for.
        self.emitter.put(ChangeDraft(change), even_if_full=True)

    def count_fallback(self, reason: Fallback) -> None:
        """Count a selection that LiteLLM makes. If that was not intended, log the first one for each reason."""
        if reason.is_intended:
            self.counters.add(f"selections_{reason}")
            return
        self.counters.add("fallbacks")
        self.counters.add(f"fallback_{reason}")
        if self.counters[f"fallback_{reason}"] == 1:
            level = logging.INFO if reason is Fallback.NO_SNAPSHOT else logging.WARNING
            _logger.log(
                level,
                "LiteLLM's own selection serves. %s (counted as fallback_%s, logged once)",
                reason.about,
                reason,
                exc_info=reason is Fallback.ERROR,
            )

    def warn_until_rated(self, policy: str, beliefs: Beliefs, arms: Sequence[str]) -> None:
        """Count choices that are made with too few ratings, and log the first one for each policy."""
        if policy in self._rated:
            return
        coverage = beliefs.stacked(arms).coverage
        if coverage >= 1.0:
            self._rated.add(policy)
            return
        self.counters.add("selections_without_quality")
        if policy not in self._unrated:
            self._unrated.add(policy)
            _logger.warning(
                "policy %r: too little is known of the quality of its answers (%.0f %% of the ratings needed). Until "
                "there are enough, failures decide, and cost and latency count only in that proportion: give feedback "
                "(counted as selections_without_quality, logged once per policy)",
                policy,
                100.0 * coverage,
            )

    def count_unrecorded(self) -> None:
        """Count a selection that serves but could not be recorded, and log the first one."""
        self.counters.add("selections_not_recorded")
        if self.counters["selections_not_recorded"] == 1:
            _logger.warning(
                "a selection could not be recorded, so nothing is learned from it "
                "(counted as selections_not_recorded, logged once)",
                exc_info=True,
            )


class DeploymentSelection:
    """One selection; see :class:`conduit_litellm.litellm_compat.Attempt`."""

    __slots__ = (
        "_arms",
        "_beliefs",
        "_choice",
        "_context",
        "_deployments",
        "_directive",
        "_fallback",
        "_id",
        "_policy",
        "_previous",
        "_selector",
        "_shadow",
    )

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._deployments: list[Deployment] | None = None
        self._arms: tuple[str, ...] = ()
        self._policy: str | None = None
        self._id = ""
        self._context: Any = None
        self._beliefs: Beliefs | None = None
        self._choice: Choice | None = None
        self._shadow: Choice | None = None
        self._directive: Directive | None = None
        self._fallback: Fallback | None = None
        self._previous = selector.ledger.current

    def pick(self, model: str, deployments: list[Deployment], request: RoutingRequest) -> Deployment | None:
        """Pick a deployment, or return None to let LiteLLM pick."""
        try:
            return self._choose(model, deployments, request)
        except Exception:  # LiteLLM can still serve the request
            self._choice = self._shadow = None
            self._fall_back(Fallback.ERROR)
            return None

    def _choose(self, model: str, deployments: list[Deployment], request: RoutingRequest) -> Deployment | None:
        selector = self._selector
        group = _group(model, deployments)
        managed = selector.model_groups
        if managed is not None and group not in managed and model not in managed:
            return None
        if len(deployments) > MAX_ARMS:
            selector.count_fallback(Fallback.TOO_MANY_DEPLOYMENTS)
            return None
        allowed = _with_weight(deployments)
        arms = self._set_deployments(allowed)
        self._context = selector.featurizer(request.content)
        self._id = decision_id = selector.decision_id()
        self._policy = policy = selector.policy(group, deployments)
        beliefs = selector.policies.get(policy)
        self._directive = directive = selector.directives.of_request(policy, beliefs, request, arms, decision_id)
        picked = allowed[0] if len(allowed) == 1 else self._decide(policy, beliefs, directive, allowed)
        if picked is None and self._shadow is None:
            self._set_deployments(deployments)  # LiteLLM picks, and not all of its strategies heed weights
        return picked

    def _set_deployments(self, deployments: list[Deployment]) -> tuple[str, ...]:
        self._deployments = deployments
        self._arms = tuple([deployment["model_info"]["id"] for deployment in deployments])
        return self._arms

    def _decide(
        self, policy: str, beliefs: Beliefs | None, directive: Directive, deployments: list[Deployment]
    ) -> Deployment | None:
        selector = self._selector
        if directive.fallback is Fallback.OFF:
            self._fall_back(Fallback.OFF)
            return None
        if beliefs is None:
            self._fall_back(Fallback.NO_SNAPSHOT)
            return None
        reason = self._snapshot_problem(policy, beliefs)
        if reason is not None:
            self._fall_back(reason)
            return None
        choice = choose(
            beliefs,
            self._context,
            self._arms,
            objective=directive.objective,
            decision_id=self._id,
            constraints=directive.constraints,
        )
        self._beliefs = beliefs
        if directive.fallback is not None:
            self._shadow = choice
            self._fall_back(directive.fallback)
            return None
        self._choice = choice
        selector.warn_until_rated(policy, beliefs, self._arms)
        return deployments[choice.index]

    def _fall_back(self, reason: Fallback) -> None:
        """Let LiteLLM pick."""
        self._fallback = reason
        self._selector.count_fallback(reason)

    def _snapshot_problem(self, policy: str, beliefs: Beliefs) -> Fallback | None:
        learned = beliefs.snapshot.settings
        ours = self._selector.settings
        if learned.featurizer != ours.featurizer or learned.dimension != ours.dimension:
            return Fallback.UNKNOWN_FEATURIZER
        if self._selector.policies.is_stale(policy):
            return Fallback.STALE_SNAPSHOT
        return None

    def finish(self, deployment: Deployment, request: RoutingRequest) -> None:
        """Record the selected deployment: in the log, on the request, and for feedback."""
        try:
            if self._policy is not None:
                self._record(deployment, request)
            elif self._selector.ledger.current is self._previous:
                # The group is not managed, or the request named its deployment. (If the current decision has changed,
                # a strategy of LiteLLM's made a synchronous selection within this one; that decision stays.)
                self._selector.counters.add("selections_left_alone")
                request.clear_stamp()
        except Exception:  # the deployment is selected, and must serve whatever happens here
            self._selector.count_unrecorded()

    def _record(self, deployment: Deployment, request: RoutingRequest) -> None:
        selector, policy = self._selector, self._policy
        arm = deployment["model_info"]["id"]
        if policy is None or self._deployments is None or arm not in self._arms:
            request.clear_stamp()
            return
        now = time.time()
        directive = self._directive
        decision = Decision(self._id, policy, arm, now)
        decision.traces = request.traces
        if directive is not None:
            decision.scope = directive.scope or ""
            if directive.session is not None:
                selector.directives.sessions.served(directive.session, arm)
        selector.ledger.add(decision)
        decision.earlier = selector.ledger.get(request.earlier_decision or "")
        request.stamp(self._id)
        selector.counters.add("selections")
        draft = SelectionDraft(
            time=now,
            policy=policy,
            decision_id=self._id,
            request_id=request.id,
            arms=self._arms,
            models=tuple([deployment["litellm_params"]["model"] for deployment in self._deployments]),
            chosen=self._arms.index(arm),
            context=self._context,
            featurizer=selector.settings.featurizer,
            directive=directive,
            shadow=self._shadow,
            choice=self._choice,
            fallback=self._fallback,
            beliefs=self._beliefs,
        )
        selector.emitter.put(draft)
        annotate_span(draft)
        seen = attempts_of_request.get()
        if seen is not None:
            seen.append(draft)


def _with_weight(deployments: list[Deployment]) -> list[Deployment]:
    """Exclude deployments of weight 0, which operators took out of the traffic, unless all have weight 0."""
    return [deployment for deployment in deployments if deployment["litellm_params"].get("weight") != 0] or deployments


def _group(model: str, deployments: list[Deployment]) -> str:
    """Return the model group: the deployments' common name, or the name in the request if they differ."""
    name = deployments[0].get("model_name")
    if isinstance(name, str) and all(deployment.get("model_name") == name for deployment in deployments):
        return name
    return model
