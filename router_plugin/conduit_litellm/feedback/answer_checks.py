"""Checks answers in the background, after they were given: implicit signals, validators, a judge."""

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

from conduit_litellm.decisions.drafts import FeedbackDraft
from conduit_litellm.decisions.judgements import Judgement
from conduit_litellm.decisions.ledger import Decision, Ledger
from conduit_litellm.events.counters import Counters
from conduit_litellm.events.emitter import Emitter
from conduit_litellm.feedback.answers import Answer
from conduit_litellm.feedback.implicit_signals import DEFAULT_VALUES, Retries, implicit_signals
from conduit_litellm.feedback.judge import AskModel, Judge, JudgeError, Sampler
from conduit_litellm.feedback.validators import Validator
from conduit_litellm.runtime.background import BackgroundThread
from conduit_schemas import ConfigurationError, unknown_name

__all__ = ["AnswerChecks", "sign_values"]

_logger = logging.getLogger("conduit")

_MAX_WAITING = 1_000
_MAX_JUDGING = 4
_IDLE_S = 0.05


class _Waiting(NamedTuple):
    decision: Decision
    answer: Answer


def sign_values(setting: bool | Mapping[str, float]) -> dict[str, float]:
    """Return the success (0..1) that an answer with each sign counts as; empty if implicit signals are off.

    Raises
    ------
    ConfigurationError
        If there is no such sign, or a value is out of range.

    Examples
    --------
    >>> sign_values({"truncated": 0.9})
    {'empty': 0.0, 'truncated': 0.9, 'invalid_json': 0.0, 'retry': 0.5}
    """
    if isinstance(setting, bool):
        return dict(DEFAULT_VALUES) if setting else {}
    for name, value in setting.items():
        if name not in DEFAULT_VALUES:
            raise ConfigurationError(f"implicit_signals: there is no {unknown_name(name, DEFAULT_VALUES)}")
        if not (isinstance(value, Real) and 0.0 <= value <= 1.0):
            raise ConfigurationError(f"implicit_signals: {name}={value!r} must be between 0 and 1")
    return {**DEFAULT_VALUES, **setting}


class AnswerChecks:
    """Checks answers in a thread of its own, and queues the results as feedback.

    At most a thousand answers wait in memory. Further ones are skipped and counted. If a check raises an exception, the
    answer gets no feedback from it; the exception is counted, and the first one is logged.
    """

    def __init__(
        self,
        *,
        signs: Mapping[str, float],
        validators: Mapping[str, Validator],
        judge: Judge | None,
        ledger: Ledger,
        emitter: Emitter,
        counters: Counters,
        ask_model: AskModel,
    ) -> None:
        self._ask_model = ask_model
        self._signs = signs
        self._validators = validators
        self._judge = judge
        self._sampler = None if judge is None else Sampler(judge)
        self._ledger = ledger
        self._emitter = emitter
        self._counters = counters
        self._retries = Retries()
        self._waiting: deque[_Waiting] = deque()
        self._busy = 0
        self._judging: set[asyncio.Task[None]] = set()
        self._thread = BackgroundThread("conduit-checks", self._run, forked=self._forked)

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to check."""
        return bool(self._signs or self._validators or self._judge)

    @property
    def waiting(self) -> int:
        """Number of answers that are not fully checked yet."""
        return len(self._waiting) + self._busy + len(self._judging)

    def wants(self, decision_id: str) -> bool:
        """Return whether a decision's answer needs checking: it is this process's, and was not submitted before."""
        decision = self._ledger.get(decision_id) if self.is_wanted else None
        return decision is not None and not decision.is_checked

    def submit(self, decision_id: str, answer: Answer) -> None:
        """Queue an answer to be checked, unless too many are waiting."""
        decision = self._ledger.get(decision_id)
        if decision is None:
            return
        decision.is_checked = True
        if len(self._waiting) >= _MAX_WAITING:
            self._counters.add("checks_dropped")
            return
        self._waiting.append(_Waiting(decision, answer))
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Check the waiting answers, for at most this many seconds, and stop."""
        self._thread.close(timeout_s)

    async def _run(self, stop: asyncio.Event) -> None:
        while True:
            while self._waiting and len(self._judging) < _MAX_JUDGING:
                self._busy = 1
                try:
                    await self._check(*self._waiting.popleft())
                finally:
                    self._busy = 0
            if stop.is_set() and not self._waiting and not self._judging:
                return
            await asyncio.sleep(_IDLE_S)

    async def _check(self, decision: Decision, answer: Answer) -> None:
        if self._signs:
            for name in implicit_signals(answer):
                self._record_sign(decision, name)
            earlier = self._ledger.get(self._retries.ask(answer, decision.id) or "")
            if earlier is not None:
                self._record_sign(earlier, "retry")
        for name, validator in self._validators.items():
            await self._validate(name, validator, decision, answer)
        if self._judge is not None and self._sampler is not None and self._sampler.picks(decision.id):
            if not self._sampler.has_money(time.time()):
                self._counters.add("judge_budget_spent")
                return
            task = asyncio.ensure_future(self._ask(self._judge, self._sampler, decision, answer))
            self._judging.add(task)
            task.add_done_callback(self._judging.discard)

    async def _validate(self, name: str, validator: Validator, decision: Decision, answer: Answer) -> None:
        try:
            found = validator(answer)
            quality = await found if inspect.isawaitable(found) else found
            if quality is not None:
                self._record(decision, Judgement(float(quality), source="validator", key=name[:256]))
        except Exception as error:  # the application's code may raise anything
            self._warn_once("validator_errors", f"validator {name!r}", error)

    async def _ask(self, judge: Judge, sampler: Sampler, decision: Decision, answer: Answer) -> None:
        try:
            verdict = await judge.ask(answer, self._ask_model)
            sampler.pay(verdict.cost_usd)
            details: dict[str, str | float | bool | None] = {"cost_usd": verdict.cost_usd, "model": judge.model}
            judged = Judgement(
                verdict.quality,
                source="judge",
                key=(judge.model or "function")[:256],
                details=details,
                sampling_probability=judge.share,
            )
            self._record(decision, judged)
        except Exception as error:  # the application's code, or a network, may raise anything
            sampler.pay(error.cost_usd if isinstance(error, JudgeError) else 0.0)
            self._warn_once("judge_errors", "the judge", error)

    def _record_sign(self, decision: Decision, name: str) -> None:
        self._record(decision, Judgement(self._signs[name], signal="success", source="implicit", key=name))

    def _record(self, decision: Decision, judgement: Judgement) -> None:
        self._emitter.put(FeedbackDraft.of(decision, judgement, time.time()))
        self._counters.add("feedbacks")
        self._counters.add(f"feedbacks_{judgement.source}")

    def _warn_once(self, counter: str, who: str, error: Exception) -> None:
        self._counters.add(counter)
        if self._counters[counter] == 1:
            _logger.warning("%s failed: %s: %s (counted as %s, logged once)", who, type(error).__name__, error, counter)

    def _forked(self) -> None:
        self._waiting.clear()
        self._judging.clear()
        self._busy = 0
