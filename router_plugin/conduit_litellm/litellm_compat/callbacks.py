"""Translates LiteLLM's callbacks into Conduit's types. It never raises and never waits.

LiteLLM reports an attempt several times and in different places: the SDK in log events of every attempt, the proxy in
log events of the whole request and in deployment hooks of every attempt. :class:`OutcomeRecorder` and
:class:`AnswerChecks`, which get the reports, use only the first one of each decision.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger

from conduit_litellm.decisions.facts import Facts, failure_facts
from conduit_litellm.events.counters import Counters
from conduit_litellm.feedback.answer_checks import AnswerChecks
from conduit_litellm.feedback.outcomes import OutcomeRecorder
from conduit_litellm.litellm_compat.responses import answer_of, stamp_response
from conduit_litellm.litellm_compat.stamps import read_stamp
from conduit_schemas import OutcomeStatus

__all__ = ["CallbackLogger"]

_logger = logging.getLogger("conduit")


class CallbackLogger(CustomLogger):
    """The callbacks that LiteLLM calls. The parameters' names are LiteLLM's, since it passes some of them by name.

    Parameters
    ----------
    outcomes
        Gets the outcomes of attempts.
    checks
        Gets the answers.
    counters
        Counts errors as ``callback_errors``.
    """

    def __init__(self, outcomes: OutcomeRecorder, checks: AnswerChecks, counters: Counters) -> None:
        super().__init__()
        self._outcomes = outcomes
        self._checks = checks
        self._counters = counters
        # LiteLLM treats two loggers of one class as the same unless a public attribute differs.
        self.conduit_logger_id = str(id(self))

    def register(self) -> None:
        """Make sure that LiteLLM calls this logger, even if the application has replaced the list of callbacks."""
        if self not in litellm.callbacks:
            litellm.callbacks.append(self)

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """An attempt is about to call its provider: from now on, its call id identifies its decision."""
        with self._counting_errors():
            call = kwargs.get("litellm_call_id")
            if isinstance(call, str):
                self._outcomes.link(_decision(kwargs), call)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A synchronous call succeeded, or its stream ended."""
        self.log_pre_api_call(None, None, kwargs)
        with self._counting_errors():
            self._outcomes.report(
                _decision(kwargs),
                lambda selected: _success_facts(kwargs, not_before(start_time, selected, end_time), end_time),
            )
        with self._counting_errors():
            decision = _decision(kwargs)
            if decision is not None and self._checks.wants(decision) and _is_new_and_whole(kwargs):
                answer = answer_of(kwargs, response_obj, start_time, end_time)
                if answer is not None:
                    self._checks.submit(decision, answer)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A synchronous attempt failed, or a stream broke."""
        with self._counting_errors():
            error = kwargs.get("exception")
            self._outcomes.report_late_failure(
                _decision(kwargs),
                lambda selected: failure_facts(error, _seconds(not_before(start_time, selected, end_time), end_time)),
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
        with self._counting_errors():
            self._outcomes.report(read_stamp(request_data or {}), lambda _: failure_facts(exception))

    async def async_post_call_success_deployment_hook(self, request_data: Any, response: Any, call_type: Any) -> Any:
        """Put the decision id on the response, so that the application can give feedback on it."""
        with self._counting_errors():
            stamp = read_stamp(request_data)
            if stamp is not None and self._outcomes.is_known(stamp):
                stamp_response(response, stamp)
        return None

    @contextmanager
    def _counting_errors(self) -> Iterator[None]:
        """Count exceptions instead of raising them: a callback must never disturb its call."""
        try:
            yield
        except Exception:
            self._counters.add("callback_errors")
            if self._counters["callback_errors"] == 1:
                _logger.warning(
                    "LiteLLM's report of a call could not be recorded (counted as callback_errors, logged once)",
                    exc_info=True,
                )


def _decision(kwargs: Mapping[str, Any]) -> str | None:
    return read_stamp(kwargs.get("litellm_params") or {})


def not_before(start: Any, selected: float, end: Any) -> Any:
    """Return when an attempt began. LiteLLM's start may be the request's, from before earlier attempts.

    Parameters
    ----------
    start, end
        The times that LiteLLM's callback reports.
    selected
        When the deployment was selected, in seconds since 1970.
    """
    if not (isinstance(start, datetime) and isinstance(end, datetime)):
        return start
    moment = datetime.fromtimestamp(selected, start.tzinfo)
    return moment if start < moment < end else start


def _success_facts(kwargs: Mapping[str, Any], start: Any, end: Any) -> Facts:
    record = _record(kwargs)
    if _is_cached(kwargs):
        return Facts(OutcomeStatus.CACHE_HIT)
    has_disconnected = _error_class(kwargs) == "ClientDisconnected"
    status = OutcomeStatus.CLIENT_DISCONNECT if has_disconnected else OutcomeStatus.SUCCESS
    streamed = bool(record.get("stream") or kwargs.get("stream"))
    return Facts(
        status,
        # LiteLLM reports 0 if it knows no price. An unknown cost must not look like a free call.
        cost_usd=_number(record.get("response_cost", kwargs.get("response_cost"))) or None,
        latency_s=_seconds(start, end),
        ttft_s=_seconds(start, kwargs.get("completion_start_time")) if streamed else None,
        input_tokens=_count(record.get("prompt_tokens")),
        output_tokens=_count(record.get("completion_tokens")),
    )


def _record(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of a call that LiteLLM passes to all loggers."""
    record: Mapping[str, Any] = kwargs.get("standard_logging_object") or {}
    return record


def _is_cached(kwargs: Mapping[str, Any]) -> bool:
    return bool(_record(kwargs).get("cache_hit") or kwargs.get("cache_hit"))


def _error_class(kwargs: Mapping[str, Any]) -> object:
    """Return the error class of a call that LiteLLM counts as a success; None if there was no error."""
    return (_record(kwargs).get("error_information") or {}).get("error_class")


def _is_new_and_whole(kwargs: Mapping[str, Any]) -> bool:
    """Return whether an answer came from a model, not from a cache, and is complete."""
    return not (_is_cached(kwargs) or _error_class(kwargs))


def _seconds(start: Any, end: Any) -> float | None:
    if isinstance(start, datetime) and isinstance(end, datetime):
        return max(0.0, (end - start).total_seconds())
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0.0 <= value <= 1e6 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
