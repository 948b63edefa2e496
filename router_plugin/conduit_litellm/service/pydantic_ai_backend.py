"""Executes requests through PydanticAI. It needs that package, so this module is imported only on demand."""

import asyncio
import inspect
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_ai import Agent, capture_run_messages
from pydantic_ai import messages as parts
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.models import Model, infer_model, parse_model_id
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.usage import RequestUsage

from conduit_litellm.decisions.facts import Facts, failure_facts
from conduit_litellm.litellm_compat.models import provider_of
from conduit_litellm.litellm_compat.prices import cost_of_tokens
from conduit_litellm.litellm_compat.stamps import read_stamp
from conduit_litellm.service.backend import Call
from conduit_litellm.service.errors import (
    CompletionError,
    ContentPolicyError,
    ContextWindowError,
    InvalidResultError,
    ModelTimeoutError,
    ModelUnavailableError,
    RequestRefusedError,
    kind_of_status,
)
from conduit_litellm.service.pydantic_ai_requests import history_of, settings_of, text_of
from conduit_litellm.service.result import ModelAnswer
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError, OutcomeStatus

__all__ = ["PydanticAIBackend"]

_SOURCE = "pydantic_ai"

_PROVIDERS = {
    "openai": "openai-chat",
    "custom_openai": "openai-chat",
    "hosted_vllm": "openai-chat",
    "openai_like": "openai-chat",
    "gemini": "google",
    "vertex_ai": "google-cloud",
    "cohere_chat": "cohere",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "ollama_chat": "ollama",
    "moonshot": "moonshotai",
}
"""PydanticAI's names of providers, where they differ from LiteLLM's."""


class _Target(NamedTuple):
    """A deployment, and the model that PydanticAI calls for it."""

    entry: Mapping[str, Any]
    model: Model

    @property
    def id(self) -> str:
        return str(self.entry["model_info"]["id"])

    @property
    def name(self) -> str:
        return str(self.entry["litellm_params"]["model"])


class _Attempt(NamedTuple):
    target: _Target
    decision_id: str
    began: float

    @property
    def latency_s(self) -> float:
        return time.perf_counter() - self.began


class PydanticAIBackend:
    """Lets the strategy choose, calls the model with PydanticAI, and reports the outcome to the strategy.

    Costs are computed with LiteLLM's prices, so that both backends report the same costs.

    Parameters
    ----------
    strategy, deployments, fallbacks, retries
        As for :class:`~conduit_litellm.service.litellm_backend.LiteLLMBackend`.
    """

    def __init__(
        self,
        strategy: ConduitRoutingStrategy,
        deployments: Sequence[Mapping[str, Any]],
        fallbacks: Sequence[Mapping[str, Any]],
        *,
        retries: int,
    ) -> None:
        self._strategy = strategy
        self._retries = retries
        self._pools = [[_target(entry) for entry in pool] for pool in (deployments, fallbacks) if pool]

    async def complete(self, call: Call[Any]) -> ModelAnswer[Any]:
        """Run an agent with the requested output type. If the answer is invalid, the agent asks the model once more."""
        history, settings = history_of(call.messages), settings_of(call.params)
        agent: Agent[None, Any] = Agent(
            output_type=str if call.result_type is None else call.result_type.kind, retries=1
        )
        failed: list[str] = []
        while True:
            attempt = self._choose(call, failed)
            with capture_run_messages() as exchanged:
                try:
                    async with asyncio.timeout(call.timeout_s):
                        run = await agent.run(
                            model=attempt.target.model, message_history=history, model_settings=settings
                        )
                except Exception as error:
                    answered = [one for one in exchanged[len(history) :] if isinstance(one, parts.ModelResponse)]
                    is_invalid = isinstance(error, UnexpectedModelBehavior) and len(answered) > 1
                    if call.result_type is not None and is_invalid:
                        raise self._invalid(attempt, answered, call.result_type.name, error) from error
                    self._failed(attempt, error, failed)
                    continue
            answered = [one for one in run.new_messages() if isinstance(one, parts.ModelResponse)]
            answer = _answer(attempt, answered, run.output)
            self._succeeded(attempt, answer)
            return answer

    async def stream(self, call: Call[Any]) -> AsyncGenerator[str | ModelAnswer[str], None]:
        """Yield the text as it arrives. If a model fails before its first word, try another one."""
        messages = call.messages if call.result_type is None else call.result_type.with_instruction(call.messages)
        history, settings = history_of(messages), settings_of(call.params)
        failed: list[str] = []
        while True:
            attempt = self._choose(call, failed)
            begun = False
            try:
                async with model_request_stream(
                    attempt.target.model, history, model_settings={**settings, "timeout": call.timeout_s}
                ) as pieces:
                    async for event in pieces:
                        text = text_of(event)
                        if text:
                            begun = True
                            yield text
                    response = pieces.get()
            except Exception as error:
                self._failed(attempt, error, failed, give_up=begun)
                continue
            answer = _answer(attempt, [response], response.text or "")
            self._succeeded(attempt, answer)
            yield answer
            return

    def translate(self, error: Exception) -> type[CompletionError]:
        """Return the service's error class for an error of PydanticAI's."""
        if isinstance(error, ModelHTTPError):
            if "context_length_exceeded" in str(error.body):
                return ContextWindowError
            return kind_of_status(error.status_code)
        if isinstance(error, ContentFilterError):
            return ContentPolicyError
        if isinstance(error, UserError):
            return RequestRefusedError
        if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
            return ModelTimeoutError
        return ModelUnavailableError

    async def aclose(self) -> None:
        """Do nothing: the connections belong to PydanticAI, which shares them between all its users."""

    def _choose(self, call: Call[Any], failed: Sequence[str]) -> _Attempt:
        pool = self._pools[len(failed) // (self._retries + 1)]
        targets = {target.id: target for target in pool}
        left = [target.entry for target in pool if target.id not in failed] or [target.entry for target in pool]
        request = {**call.params, "metadata": dict(call.metadata), "user": call.user_id}
        chosen = self._strategy.choose(str(pool[0].entry["model_name"]), left, list(call.messages), request)
        return _Attempt(targets[chosen["model_info"]["id"]], read_stamp(request) or "", time.perf_counter())

    def _succeeded(self, attempt: _Attempt, answer: ModelAnswer[Any]) -> None:
        facts = Facts(
            OutcomeStatus.SUCCESS,
            cost_usd=answer.cost_usd,
            latency_s=answer.latency_s,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )
        self._strategy.record_outcome(attempt.decision_id, facts, _SOURCE)

    def _failed(self, attempt: _Attempt, error: Exception, failed: list[str], *, give_up: bool = False) -> None:
        """Report a failure. Raise it if no further attempt is allowed."""
        facts = failure_facts(error, attempt.latency_s)
        self._strategy.record_outcome(attempt.decision_id, facts, _SOURCE)
        failed.append(attempt.target.id)
        over = len(failed) >= len(self._pools) * (self._retries + 1)
        if give_up or over or issubclass(self.translate(error), RequestRefusedError):
            raise error

    def _invalid(
        self, attempt: _Attempt, answered: list[parts.ModelResponse], type_name: str, error: Exception
    ) -> InvalidResultError:
        answer = _answer(attempt, answered, None)
        self._succeeded(attempt, answer)  # the model did answer; that the answer is invalid is feedback, not an outcome
        return InvalidResultError.of(answer.model, type_name, error.__cause__ or error, answer.text)


def _answer(attempt: _Attempt, answered: list[parts.ModelResponse], data: Any) -> ModelAnswer[Any]:
    usages = [response.usage for response in answered]
    costs = [_cost(attempt.target, usage) for usage in usages]
    last = answered[-1]
    return ModelAnswer(
        data=data,
        text=last.text or "".join(call.args_as_json_str() for call in last.tool_calls),
        deployment_id=attempt.target.id,
        model=attempt.target.name,
        cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
        latency_s=attempt.latency_s,
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        repaired=len(answered) > 1,
        response=last,
    )


def _cost(target: _Target, usage: RequestUsage) -> float | None:
    return cost_of_tokens(
        target.entry["litellm_params"],
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read=usage.cache_read_tokens,
        cache_write=usage.cache_write_tokens,
    )


def _target(entry: Mapping[str, Any]) -> _Target:
    params = entry["litellm_params"]
    name = str(params["model"])
    try:
        return _Target(entry, _model(name, params))
    except ImportError as error:
        raise ConfigurationError(f"model {name!r} needs a package that is not installed: {error}") from error
    except (UserError, ValueError, TypeError) as error:
        raise ConfigurationError(f"PydanticAI cannot use model {name!r}: {error}") from error


def _model(name: str, params: Mapping[str, Any]) -> Model:
    if parse_model_id(name)[0] is None:
        provider, model = provider_of(name)
        name = f"{_PROVIDERS.get(provider, provider)}:{model}"

    def create_provider(provider: str) -> Provider[Any]:
        kind = infer_provider_class(provider)
        settings = {"api_key": params.get("api_key"), "base_url": params.get("api_base") or params.get("base_url")}
        if "azure" in provider:
            settings |= {"azure_endpoint": settings.pop("base_url"), "api_version": params.get("api_version")}
        given = {key: _resolved(value) for key, value in settings.items() if value is not None}
        unknown = set(given) - set(inspect.signature(kind).parameters)
        if unknown:
            raise UserError(f"its provider {provider!r} takes no {', '.join(sorted(unknown))}")
        instance = kind(**given)
        client: Any = getattr(instance, "client", None)
        if hasattr(client, "max_retries"):
            client.max_retries = 0  # retries inside a client would be attempts that Conduit does not see
        return instance

    return infer_model(name, provider_factory=create_provider)


def _resolved(value: Any) -> Any:
    """Return a setting, or the environment variable that it names as ``os.environ/NAME``."""
    if isinstance(value, str) and value.startswith("os.environ/"):
        return os.environ.get(value.removeprefix("os.environ/"))
    return value
