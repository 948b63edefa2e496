"""LiteLLM's callbacks turned into outcomes: one per decision, never an error, never a wait."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger

from conduit_litellm.decisions.drafts import OutcomeDraft
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_litellm.litellm_compat.calls import (
    Facts,
    failure_facts,
    not_before,
    put_stamp_on_response,
    read_stamp,
    success_facts,
)

__all__ = ["OutcomeLogger"]

_logger = logging.getLogger("conduit")


class OutcomeLogger(CustomLogger):
    """Reports what became of this strategy's decisions.

    LiteLLM tells of an attempt more than once and in different places: the SDK through the log events of
    every attempt, the proxy through those of the whole request and the deployment hooks of every attempt.
    The ledger lets the first report of a decision through.
    """

    def __init__(
        self,
        ledger: Ledger,
        emitter: Emitter,
        counters: Counters,
        *,
        paid: Callable[[Decision, float | None], None] | None = None,
        answered: Callable[[Any, Any, Any, Any], None] | None = None,
    ) -> None:
        super().__init__()
        self._paid = paid
        self._answered = answered
        self._ledger = ledger
        self._emitter = emitter
        self._counters = counters
        # LiteLLM takes two loggers of one class for the same one unless a public attribute tells them apart.
        self.conduit_logger_id = str(id(self))

    def register(self) -> None:
        """Make sure that LiteLLM calls this logger; an application may have replaced the list of callbacks."""
        if self not in litellm.callbacks:
            litellm.callbacks.append(self)

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """An attempt is about to call its provider: remember which decision its call id stands for."""
        try:
            self._link(kwargs)
        except Exception:  # a callback must never disturb the call it is told of
            self._counters.add("callback_errors")

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A synchronous call succeeded, or its stream ended."""
        self.log_pre_api_call(None, None, kwargs)
        self._report(
            kwargs.get("litellm_params"),
            lambda selected: success_facts(kwargs, not_before(start_time, selected, end_time), end_time),
        )
        if self._answered is not None:
            self._answered(kwargs, response_obj, start_time, end_time)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A synchronous attempt failed, or a stream broke."""
        exception = kwargs.get("exception")
        self._report(
            kwargs.get("litellm_params"),
            lambda selected: failure_facts(exception, not_before(start_time, selected, end_time), end_time),
            late=True,
        )

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """An asynchronous call succeeded, or its stream ended."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """An asynchronous attempt failed, or its stream broke."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Any, call_type: Any, fallback_depth: int | None = None
    ) -> None:
        """One attempt failed, in the SDK and in the proxy alike."""
        self._report(request_data, lambda _: failure_facts(exception))

    async def async_post_call_success_deployment_hook(self, request_data: Any, response: Any, call_type: Any) -> Any:
        """Put the decision id on the response, so that the application can give feedback on it."""
        try:
            stamp = read_stamp(request_data)
            if stamp is not None and self._ledger.get(stamp) is not None:
                put_stamp_on_response(response, stamp)
        except Exception:  # a response of an unexpected kind must reach the caller all the same
            self._counters.add("callback_errors")
        return None

    def _link(self, kwargs: Mapping[str, Any]) -> None:
        stamp, call = read_stamp(kwargs.get("litellm_params") or {}), kwargs.get("litellm_call_id")
        decision = None if stamp is None else self._ledger.get(stamp)
        if decision is not None and isinstance(call, str):
            self._ledger.link(decision, call)

    def _report(
        self, arguments: Mapping[str, Any] | None, facts: Callable[[float], Facts], *, late: bool = False
    ) -> None:
        """Report on the decision that the arguments name.

        A late report may come when the next attempt of a proxied request has put its own stamp there already;
        reports that are not late tell that the attempts before have failed, whether or not LiteLLM says so.
        """
        try:
            stamp = read_stamp(arguments or {})
            newest = None if stamp is None else self._ledger.get(stamp)
            if newest is None:
                return
            attempts = newest.attempts
            if late:
                told = facts(newest.time)
                decision = _that_failed(attempts, told)
                if decision is not None:
                    self.record_outcome(decision, told if decision is newest else facts(decision.time))
                return
            if not newest.has_outcome:
                self.record_outcome(newest, facts(newest.time))
            for decision in attempts[:-1]:
                self.record_outcome(decision, Facts("error"))
        except Exception:  # a callback must never disturb the call it reports on
            self._counters.add("callback_errors")
            if self._counters["callback_errors"] == 1:
                _logger.warning("an outcome could not be recorded", exc_info=True)

    def record_outcome(self, decision: Decision, told: Facts, source: str = "litellm") -> None:
        """Report how an attempt went, unless that is known already."""
        now = time.time()
        if told.latency_s is None and told.error_class is not None:
            told = told._replace(latency_s=max(0.0, now - decision.time))
        if self._ledger.claim_outcome(decision):
            if told.status == "error":
                decision.failure = told.error_class, told.error_code
            self._counters.add(f"outcomes_{told.status}")
            if self._paid is not None and told.status != "cache_hit":
                self._paid(decision, told.cost_usd)
            self._emitter.put(OutcomeDraft(now, decision, told, source))


def _that_failed(attempts: list[Decision], told: Facts) -> Decision | None:
    """Return the attempt that a late report is about: the first one without an outcome.

    Where only the newest has none, a failure like one that is known already is that one, told again.
    """
    waiting = [decision for decision in attempts if not decision.has_outcome]
    if waiting == attempts[-1:] and (told.error_class, told.error_code) in [one.failure for one in attempts]:
        return None
    return waiting[0] if waiting else None
