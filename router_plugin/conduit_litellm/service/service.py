"""The execution service: takes requests, returns validated results, and learns from both."""

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
from conduit_litellm.routing.request_goal import REQUEST_KEY, goal_of_request
from conduit_litellm.service.backend import Backend, Call
from conduit_litellm.service.errors import CompletionError, InvalidResultError
from conduit_litellm.service.explanation import explain
from conduit_litellm.service.result import Completion, ModelAnswer
from conduit_litellm.service.result_type import Messages, ResultType, result_type_of
from conduit_litellm.service.stream import Stream
from conduit_litellm.settings import ObjectiveForm
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError, OutcomeStatus, RoutingGoal

__all__ = ["Service"]

T = TypeVar("T", default=Any)
Constraints = RoutingGoal | Mapping[str, Any]

VALIDATION = "validation"
"""The source of the feedback on whether an answer was valid."""

_VALID, _REPAIRED, _INVALID = 1.0, 0.5, 0.0


class Service:
    """Chooses a model, calls it, validates the answer and learns; created by :func:`conduit_litellm.create_service`.

    Use it as an asynchronous context manager, or call :meth:`aclose` at the end. Requests may run concurrently.
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
        objective: ObjectiveForm | None = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Completion[T]:
        """Answer a request with the model that is expected to serve it best.

        Parameters
        ----------
        prompt
            The user's message. It is appended to ``messages``.
        result_type
            The type that this answer must have, instead of the service's default; ``str`` for text.
        messages
            The conversation so far, in the form of OpenAI's API.
        user_id
            The user who asks. Providers get it as ``user``.
        constraints
            Limits of this request, such as ``max_cost_usd``, ``max_latency_s``, ``max_ttft_s`` and
            ``quality_floor``; see :class:`conduit_schemas.RoutingGoal`. A budget is not for a single request to set.
        objective
            This request's objective, instead of the strategy's: a preset's name, or weights.
        timeout_s
            Seconds that each attempt may take, instead of the service's default.
        metadata
            Further entries of LiteLLM's request metadata.
        params
            ``temperature``, ``max_tokens`` and so on. Parameters that the chosen model does not have are omitted.

        Raises
        ------
        CompletionError
            If there is no usable answer after retries and fallbacks; see :mod:`conduit_litellm.service.errors`.
        ConfigurationError
            If an argument is invalid.
        """
        call = self._call(
            prompt,
            messages,
            result_type=result_type,
            goal=_goal(constraints, objective),
            user_id=user_id,
            timeout_s=timeout_s,
            metadata=metadata,
            params=params,
        )
        attempts: list[SelectionDraft] = []
        began = time.perf_counter()
        with self._translating(call, attempts), _recording(attempts):
            answer = await self._backend.complete(call)
        if call.result_type is not None:
            self._rate(attempts, call.result_type, _REPAIRED if answer.repaired else _VALID)
        return self._completion(answer, attempts, began)

    def stream(
        self,
        prompt: str | None = None,
        *,
        result_type: type[Any] | None = None,
        messages: Messages | None = None,
        user_id: str | None = None,
        constraints: Constraints | None = None,
        objective: ObjectiveForm | None = None,
        timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Stream:
        """Answer a request piece by piece. The arguments are those of :meth:`complete`.

        ::

            async with service.stream("Tell me a story") as stream:
                async for text in stream:
                    print(text, end="")
            print(stream.completion.cost_usd)

        If a result type is given, the answer is validated at the end. An invalid answer is not repaired, because the
        reader already has it.
        """
        call = self._call(
            prompt,
            messages,
            result_type=result_type,
            goal=_goal(constraints, objective),
            user_id=user_id,
            timeout_s=timeout_s,
            metadata=metadata,
            params=params,
        )
        attempts: list[SelectionDraft] = []
        began = time.perf_counter()

        def finish(answer: ModelAnswer[str]) -> Completion[Any]:
            completion: Completion[Any] = self._completion(answer, attempts, began)
            if call.result_type is None:
                return completion
            try:
                completion = replace(completion, data=call.result_type.parse(answer.text))
            except ValidationError as error:
                raise InvalidResultError.of(answer.model, call.result_type.name, error, answer.text) from error
            self._rate(attempts, call.result_type, _VALID)
            return completion

        return Stream(
            self._backend.stream(call),
            recording=lambda: _recording(attempts),
            translating=lambda: self._translating(call, attempts),
            finish=finish,
            give_up=lambda: self._give_up(attempts),
        )

    async def feedback(
        self, answer: Completion[Any] | str, quality: float, *, source: str = "app", key: str = ""
    ) -> str:
        """Rate an answer, now or later, in this process or another.

        Parameters
        ----------
        answer
            The completion, or its ``decision_id``.
        quality
            0 (useless) to 1 (perfect).
        source
            Who rates it: the app, a judge, a validator, a person.
        key
            Distinguishes several ratings by the same source. A rating counts once per decision, source and key.

        Returns
        -------
        str
            The decision's id.

        Raises
        ------
        ConfigurationError
            If there was no decision behind the completion.
        ValueError
            If the quality is out of range.
        """
        decision: str | None
        if isinstance(answer, Completion):
            decision, policy = answer.decision_id, answer.policy
        else:
            decision, policy = answer, self.policy
        if not decision:
            raise ConfigurationError("Conduit made no decision for this answer, so feedback on it has no effect")
        return self.strategy.rate(quality, decision_id=decision, policy=policy, source=source, key=key) or decision

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Deliver waiting events to the log, for at most ``timeout_s`` seconds, and close all connections."""
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
        result_type: type[Any] | None,
        goal: RoutingGoal | None,
        user_id: str | None,
        timeout_s: float | None,
        metadata: Mapping[str, Any] | None,
        params: Mapping[str, Any],
    ) -> Call[Any]:
        if self._closed:
            raise ConfigurationError("this service is closed")
        conversation = [*(messages or ()), *([] if prompt is None else [{"role": "user", "content": prompt}])]
        if not conversation:
            raise ConfigurationError("give a prompt, or messages")
        own = {} if goal is None else {REQUEST_KEY: goal.model_dump(exclude_none=True)}
        return Call(
            messages=conversation,
            result_type=self._default if result_type is None else result_type_of(result_type),
            metadata={**(metadata or {}), **own},
            user_id=user_id,
            timeout_s=self._timeout_s if timeout_s is None else timeout_s,
            params=params,
        )

    @contextmanager
    def _translating(self, call: Call[Any], attempts: list[SelectionDraft]) -> Iterator[None]:
        """Translate errors into the service's own, and report cancelled requests as such."""
        try:
            yield
        except asyncio.CancelledError:
            self._give_up(attempts)
            raise
        except InvalidResultError as error:
            error.decision_ids = tuple(attempt.decision_id for attempt in attempts)
            if call.result_type is not None:
                self._rate(attempts, call.result_type, _INVALID)
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

    def _rate(self, attempts: list[SelectionDraft], result_type: ResultType[Any], quality: float) -> None:
        if self._learns_from_validation and attempts:
            last = attempts[-1]
            self.strategy.rate(
                quality, decision_id=last.decision_id, policy=last.policy, source=VALIDATION, key=result_type.name
            )

    def _completion(self, answer: ModelAnswer[T], attempts: list[SelectionDraft], began: float) -> Completion[T]:
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
            explanation=explain(attempts),
            response=answer.response,
        )


@contextmanager
def _recording(attempts: list[SelectionDraft]) -> Iterator[None]:
    token = attempts_of_request.set(attempts)
    try:
        yield
    finally:
        attempts_of_request.reset(token)


def _goal(constraints: Constraints | None, objective: ObjectiveForm | None) -> RoutingGoal | None:
    """Return one request's own goal, validated; None if it has none."""
    if constraints is None and objective is None:
        return None
    fields = constraints.model_dump(exclude_none=True) if isinstance(constraints, RoutingGoal) else constraints or {}
    if objective is not None:
        fields = {**fields, "objective": objective}
    return goal_of_request(fields, "constraints and objective")
