"""LiteLLM's callbacks, said again in Conduit's own words: never an error, never a wait.

LiteLLM tells of an attempt more than once and in different places: the SDK through the log events of every attempt,
the proxy through those of the whole request and the deployment hooks of every attempt. Whoever is told here lets the
first report of a decision through.
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
    """What LiteLLM calls; the parameters' names are LiteLLM's, which passes some of them by name.

    Parameters
    ----------
    outcomes
        Is told how attempts went.
    checks
        Get the answers.
    """

    def __init__(self, outcomes: OutcomeRecorder, checks: AnswerChecks, counters: Counters) -> None:
        super().__init__()
        self._outcomes = outcomes
        self._checks = checks
        self._counters = counters
        # LiteLLM takes two loggers of one class for the same one unless a public attribute tells them apart.
        self.conduit_logger_id = str(id(self))

    def register(self) -> None:
        """Make sure that LiteLLM calls this logger; an application may have replaced the list of callbacks."""
        if self not in litellm.callbacks:
            litellm.callbacks.append(self)

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """An attempt is about to call its provider: its call id stands for its decision from now on."""
        with self._undisturbed():
            call = kwargs.get("litellm_call_id")
            if isinstance(call, str):
                self._outcomes.link(_decision(kwargs), call)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A synchronous call succeeded, or its stream ended."""
        self.log_pre_api_call(None, None, kwargs)
        with self._undisturbed():
            self._outcomes.report(
                _decision(kwargs),
                lambda selected: _success_facts(kwargs, not_before(start_time, selected, end_time), end_time),
            )
        with self._undisturbed():
            decision = _decision(kwargs)
            if decision is not None and self._checks.wants(decision) and _is_new_and_whole(kwargs):
                answer = answer_of(kwargs, response_obj, start_time, end_time)
                if answer is not None:
                    self._checks.submit(decision, answer)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A synchronous attempt failed, or a stream broke."""
        with self._undisturbed():
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
        with self._undisturbed():
            self._outcomes.report(read_stamp(request_data or {}), lambda _: failure_facts(exception))

    async def async_post_call_success_deployment_hook(self, request_data: Any, response: Any, call_type: Any) -> Any:
        """Put the decision id on the response, so that the application can give feedback on it."""
        with self._undisturbed():
            stamp = read_stamp(request_data)
            if stamp is not None and self._outcomes.is_known(stamp):
                stamp_response(response, stamp)
        return None

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Count what goes wrong: a callback must never disturb the call that it is told of."""
        try:
            yield
        except Exception:
            self._counters.add("callback_errors")
            if self._counters["callback_errors"] == 1:
                _logger.warning(
                    "what LiteLLM told of a call could not be recorded (counted as callback_errors, said once)",
                    exc_info=True,
                )


def _decision(kwargs: Mapping[str, Any]) -> str | None:
    return read_stamp(kwargs.get("litellm_params") or {})


def not_before(start: Any, selected: float, end: Any) -> Any:
    """Return when an attempt began: LiteLLM's own start may be that of the request, before earlier attempts.

    Parameters
    ----------
    start, end
        What LiteLLM's callback tells.
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
    is_gone = _error_class(kwargs) == "ClientDisconnected"
    status = OutcomeStatus.CLIENT_DISCONNECT if is_gone else OutcomeStatus.SUCCESS
    streamed = bool(record.get("stream") or kwargs.get("stream"))
    return Facts(
        status,
        # LiteLLM reports 0 where it knows no price: unknown must not pass for free.
        cost_usd=_number(record.get("response_cost", kwargs.get("response_cost"))) or None,
        latency_s=_seconds(start, end),
        ttft_s=_seconds(start, kwargs.get("completion_start_time")) if streamed else None,
        input_tokens=_count(record.get("prompt_tokens")),
        output_tokens=_count(record.get("completion_tokens")),
    )


def _record(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record that LiteLLM makes of a call for all loggers."""
    record: Mapping[str, Any] = kwargs.get("standard_logging_object") or {}
    return record


def _is_cached(kwargs: Mapping[str, Any]) -> bool:
    return bool(_record(kwargs).get("cache_hit") or kwargs.get("cache_hit"))


def _error_class(kwargs: Mapping[str, Any]) -> object:
    """Return what went wrong with a call that LiteLLM counts as a success, if anything."""
    return (_record(kwargs).get("error_information") or {}).get("error_class")


def _is_new_and_whole(kwargs: Mapping[str, Any]) -> bool:
    """Say whether an answer is a model's own, and has come to its end."""
    return not (_is_cached(kwargs) or _error_class(kwargs))


def _seconds(start: Any, end: Any) -> float | None:
    if isinstance(start, datetime) and isinstance(end, datetime):
        return max(0.0, (end - start).total_seconds())
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0.0 <= value <= 1e6 else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
