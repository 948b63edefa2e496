"""The execution service: a request in, a validated result out, and everything learned from on the way."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError
from typing_extensions import TypeVar

from conduit_litellm.decisions.drafts import SelectionDraft, attempts_of_request
from conduit_litellm.decisions.facts import Facts
from conduit_litellm.service.backend import Backend, Call
from conduit_litellm.service.errors import CompletionError, InvalidResultError
from conduit_litellm.service.explanation import explained
from conduit_litellm.service.result import Answer, Completion
from conduit_litellm.service.result_type import Messages, ResultType, result_type_of
from conduit_litellm.service.stream import Stream
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_policy import Objective, objective_of
from conduit_schemas import ConfigurationError, OutcomeStatus, RoutingGoal, checked

__all__ = ["Service"]

T = TypeVar("T", default=Any)
Constraints = RoutingGoal | Mapping[str, Any]

VALIDATION = "validation"
"""Who gives the feedback on whether an answer was valid."""

_VALID, _REPAIRED, _INVALID = 1.0, 0.5, 0.0


class Service:
    """Chooses, executes, validates and learns; made by :func:`conduit_litellm.create_service`.

    As an asynchronous context manager it closes itself at the end; otherwise :meth:`aclose` does. Requests may
    run concurrently.
    """

    def __init__(
        self,
        strategy: ConduitRoutingStrategy,
        backend: Backend,
        *,
        policy: str,
        models: list[str],
        default: ResultType[Any] | None,
        timeout_s: float,
        learn_from_validation: bool,
    ) -> None:
        self.strategy = strategy
        self.policy = policy
        self._backend = backend
        self._models = models
        self._default = default
        self._timeout_s = timeout_s
        self._learns_from_validation = learn_from_validation
        self._closed = False

    def supported_models(self) -> list[str]:
        """Return the names of the models that may be chosen, fallbacks last."""
        return list(self._models)

    async def complete(
        self,
        prompt: str | None = None,
        *,
        result_type: type[T] | None = None,
        messages: Messages | None = None,
        user_id: str | None = None,
        constraints: Constraints | None = None,
        objective: str | Mapping[str, float] | Objective | None = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Completion[T]:
        """Answer a request with the model that is expected to serve it best.

        Parameters
        ----------
        prompt
            What the user says; it comes after ``messages``.
        result_type
            What this answer is validated against, in place of the service's default; ``str`` for text.
        messages
            The conversation so far, as OpenAI's API has it.
        user_id
            Who asks; providers get it as ``user``.
        constraints
            Limits of this request, such as ``max_cost_usd``, ``max_latency_s`` and ``quality_floor``; see
            :class:`conduit_schemas.RoutingGoal`.
        objective
            What this request wants, in place of the strategy's objective: a preset's name, or weights.
        timeout_s
            Seconds that each attempt may take, in place of the service's.
        metadata
            Further entries of LiteLLM's request metadata.
        params
            ``temperature``, ``max_tokens`` and so on. What the chosen model has no parameter for is left out.

        Raises
        ------
        CompletionError
            When there is no usable answer after retries and fallbacks; see :mod:`conduit_litellm.service.errors`.
        ConfigurationError
            When an argument cannot be used.
        """
        call = self._call(
            prompt,
            messages,
            wanted=self._default if result_type is None else result_type_of(result_type),
            goal=_goal(constraints, objective),
            user_id=user_id,
            timeout_s=timeout_s,
            metadata=metadata,
            params=params,
        )
        attempts: list[SelectionDraft] = []
        began = time.perf_counter()
        with self._watched(call, attempts), _noting(attempts):
            answer = await self._backend.complete(call)
        if call.wanted is not None:
            self._rate(attempts, call.wanted, _REPAIRED if answer.repaired else _VALID)
        return self._completion(answer, attempts, began)

    def stream(
        self,
        prompt: str | None = None,
        *,
        result_type: type[Any] | None = None,
        messages: Messages | None = None,
        user_id: str | None = None,
        constraints: Constraints | None = None,
        objective: str | Mapping[str, float] | Objective | None = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Stream:
        """Answer a request piece by piece; the arguments are those of :meth:`complete`.

        ::

            async with service.stream("Tell me a story") as stream:
                async for text in stream:
                    print(text, end="")
            print(stream.completion.cost_usd)

        A wanted type is checked at the end: what the reader has got already is not asked for again.
        """
        call = self._call(
            prompt,
            messages,
            wanted=self._default if result_type is None else result_type_of(result_type),
            goal=_goal(constraints, objective),
            user_id=user_id,
            timeout_s=timeout_s,
            metadata=metadata,
            params=params,
        )
        attempts: list[SelectionDraft] = []
        began = time.perf_counter()

        def finish(answer: Answer[str]) -> Completion[Any]:
            made: Completion[Any] = self._completion(answer, attempts, began)
            if call.wanted is None:
                return made
            try:
                made = replace(made, data=call.wanted.parse(answer.text))
            except ValidationError as error:
                raise InvalidResultError.of(answer.model, call.wanted.name, error, answer.text) from error
            self._rate(attempts, call.wanted, _VALID)
            return made

        return Stream(
            self._backend.stream(call),
            noting=lambda: _noting(attempts),
            watched=lambda: self._watched(call, attempts),
            finish=finish,
            give_up=lambda: self._give_up(attempts),
        )

    async def feedback(
        self, answer: Completion[Any] | str, quality: float, *, source: str = "app", key: str = ""
    ) -> str:
        """Say how good an answer was, now or later, in this process or another.

        Parameters
        ----------
        answer
            The completion, or its ``decision_id``.
        quality
            0 (useless) to 1 (perfect).
        source
            Who says so: the app, a judge, a validator, a person.
        key
            Tells several ratings by one source apart. Each counts once per decision, source and key.

        Returns
        -------
        str
            The decision's id.

        Raises
        ------
        ConfigurationError
            When the completion came of no decision.
        ValueError
            When the quality is out of range.
        """
        decision: str | None
        if isinstance(answer, Completion):
            decision, policy = answer.decision_id, answer.policy
        else:
            decision, policy = answer, self.policy
        if not decision:
            raise ConfigurationError("this answer came of no decision of Conduit's: there is nothing to learn from it")
        return self.strategy.rate(quality, decision_id=decision, policy=policy, source=source, key=key) or decision

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Deliver what waits for the log, for at most ``timeout_s`` seconds, and let go of everything."""
        self._closed = True
        await self._backend.aclose()
        await self.strategy.aclose(timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _call(
        self,
        prompt: str | None,
        messages: Messages | None,
        *,
        wanted: ResultType[Any] | None,
        goal: RoutingGoal | None,
        user_id: str | None,
        timeout_s: float | None,
        metadata: Mapping[str, Any] | None,
        params: Mapping[str, Any],
    ) -> Call[Any]:
        if self._closed:
            raise ConfigurationError("this service is closed")
        asked = [*(messages or ()), *([] if prompt is None else [{"role": "user", "content": prompt}])]
        if not asked:
            raise ConfigurationError("give a prompt, or messages")
        own = {} if goal is None else {"conduit": goal.model_dump(exclude_none=True)}
        return Call(
            messages=asked,
            wanted=wanted,
            metadata={**(metadata or {}), **own},
            user_id=user_id,
            timeout_s=self._timeout_s if timeout_s is None else timeout_s,
            params=params,
        )

    @contextmanager
    def _watched(self, call: Call[Any], attempts: list[SelectionDraft]) -> Iterator[None]:
        """Have errors come out as the service's own, and what was given up noted as such."""
        try:
            yield
        except asyncio.CancelledError:
            self._give_up(attempts)
            raise
        except InvalidResultError as error:
            error.decision_ids = tuple(attempt.decision_id for attempt in attempts)
            if call.wanted is not None:
                self._rate(attempts, call.wanted, _INVALID)
            raise
        except (CompletionError, ConfigurationError):
            raise
        except Exception as error:
            model = attempts[-1].models[attempts[-1].chosen] if attempts else None
            raise self._backend.translate(error)(
                f"{model or 'no model'}: {error}"[:2000],
                model=model,
                decision_ids=[attempt.decision_id for attempt in attempts],
            ) from error

    def _give_up(self, attempts: list[SelectionDraft]) -> None:
        if attempts:
            spent = max(0.0, time.time() - attempts[-1].time)
            self.strategy.record_outcome(
                attempts[-1].decision_id, Facts(OutcomeStatus.CANCELLED, latency_s=spent), "service"
            )

    def _rate(self, attempts: list[SelectionDraft], wanted: ResultType[Any], quality: float) -> None:
        if self._learns_from_validation and attempts:
            last = attempts[-1]
            self.strategy.rate(
                quality, decision_id=last.decision_id, policy=last.policy, source=VALIDATION, key=wanted.name
            )

    def _completion(self, answer: Answer[T], attempts: list[SelectionDraft], began: float) -> Completion[T]:
        last = attempts[-1] if attempts else None
        return Completion(
            data=answer.data,
            text=answer.text,
            model=answer.model,
            deployment_id=answer.deployment_id,
            decision_id=None if last is None else last.decision_id,
            policy=self.policy if last is None else last.policy,
            cost_usd=answer.cost_usd,
            latency_s=answer.latency_s,
            elapsed_s=time.perf_counter() - began,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            attempts=len(attempts),
            repaired=answer.repaired,
            explanation=explained(attempts),
            response=answer.response,
        )


@contextmanager
def _noting(attempts: list[SelectionDraft]) -> Iterator[None]:
    token = attempts_of_request.set(attempts)
    try:
        yield
    finally:
        attempts_of_request.reset(token)


def _goal(
    constraints: Constraints | None, objective: str | Mapping[str, float] | Objective | None
) -> RoutingGoal | None:
    """Return what one request wants, checked."""
    if constraints is None and objective is None:
        return None
    fields = constraints.model_dump(exclude_none=True) if isinstance(constraints, RoutingGoal) else constraints or {}
    if objective is not None:
        fields = {**fields, "objective": objective}
    goal = checked(RoutingGoal, fields, "constraints and objective")
    objective_of(goal, Objective())  # refuses a preset that does not exist
    return goal
