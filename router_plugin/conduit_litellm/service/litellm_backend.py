"""Executes requests through a LiteLLM Router, on which Conduit's strategy is installed."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import litellm
from litellm import exceptions
from litellm.integrations.custom_logger import CustomLogger
from litellm.router import Router
from litellm.types.router import RouterRateLimitError, RouterRateLimitErrorBasic
from pydantic import ValidationError

from conduit_litellm.decisions.drafts import attempts_of_request
from conduit_litellm.litellm_compat.prices import cost_of_response
from conduit_litellm.litellm_compat.responses import cost_of, latency_of, origin_of
from conduit_litellm.service.backend import Call
from conduit_litellm.service.errors import (
    AccessDeniedError,
    CompletionError,
    ContentPolicyError,
    ContextWindowError,
    InvalidResultError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitedError,
    kind_of_status,
)
from conduit_litellm.service.result import ModelAnswer
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError

__all__ = ["LiteLLMBackend", "translated"]


class LiteLLMBackend:
    """Calls any provider that LiteLLM knows.

    Parameters
    ----------
    strategy
        Chooses the deployments.
    deployments, fallbacks
        Entries of a Router's model list. Those in ``fallbacks`` serve if all others have failed.
    retries
        Number of further attempts after the first. Each uses a deployment that has not failed yet, if there is one.
    options
        Further arguments of the Router.
    """

    def __init__(
        self,
        strategy: ConduitRoutingStrategy,
        deployments: Sequence[Mapping[str, Any]],
        fallbacks: Sequence[Mapping[str, Any]],
        *,
        retries: int,
        options: Mapping[str, Any],
    ) -> None:
        entries = [_checked(entry) for entry in (*deployments, *fallbacks)]
        self._group = str(deployments[0]["model_name"])
        self._models = {entry["model_info"]["id"]: entry["litellm_params"] for entry in entries}
        # All deployments get the same request, so a schema is sent only if every provider supports schemas.
        self._enforces = all(litellm.supports_response_schema(params["model"]) for params in self._models.values())
        routes = [{self._group: [fallbacks[0]["model_name"]]}] if fallbacks else []
        try:
            self._router = Router(
                **{
                    "model_list": entries,
                    "num_retries": retries,
                    "retry_after": 0,
                    "fallbacks": routes,
                    # A parameter that the chosen model does not have must not fail the request.
                    "default_litellm_params": {"drop_params": True},
                    **options,
                }
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"LiteLLM's Router refuses its settings: {error}; check router_options and the models"
            ) from error
        strategy.install(self._router)

    async def complete(self, call: Call[Any]) -> ModelAnswer[Any]:
        """Call a model and validate the answer. If it is invalid, call the same deployment once more."""
        expected = call.result_type
        messages = call.messages if expected is None else expected.with_instruction(call.messages)
        response = await self._ask(self._group, messages, call)
        first = self._answer(response)
        if expected is None:
            return first
        try:
            return replace(first, data=expected.parse(first.text))
        except ValidationError as error:
            again = expected.with_correction(call.messages, first.text, error)
        second = self._answer(await self._ask(first.deployment_id, again, call))
        try:
            return replace(_combined(first, second), data=expected.parse(second.text))
        except ValidationError as error:
            raise InvalidResultError.of(first.model, expected.name, error, second.text) from error

    async def stream(self, call: Call[Any]) -> AsyncGenerator[str | ModelAnswer[str], None]:
        """Yield the pieces, then the whole answer with the usage that the provider reported."""
        messages = call.messages if call.result_type is None else call.result_type.with_instruction(call.messages)
        began = time.perf_counter()
        response = await self._ask(self._group, messages, call, stream=True, stream_options={"include_usage": True})
        chunks: list[Any] = []
        async for chunk in response:
            chunks.append(chunk)
            text = chunk.choices[0].delta.content if chunk.choices else None
            if text:
                yield text
        whole: Any = litellm.stream_chunk_builder(chunks, messages=list(messages))
        yield self._answer(whole, of=origin_of(response).deployment_id, latency_s=time.perf_counter() - began)

    def translate(self, error: Exception) -> type[CompletionError]:
        """See :func:`translated`."""
        return translated(error)

    async def aclose(self) -> None:
        """Remove the router's callbacks from LiteLLM."""
        self._router.discard()  # type: ignore[no-untyped-call]  # LiteLLM has no types there

    async def _ask(self, model: str, messages: Any, call: Call[Any], **more: Any) -> Any:
        if _exclude_failed not in litellm.callbacks:  # an application may have replaced the list
            litellm.callbacks.append(_exclude_failed)
        arguments = {**call.params, **more, "timeout": call.timeout_s, "metadata": dict(call.metadata)}
        if call.user_id is not None:
            arguments["user"] = call.user_id
        if call.result_type is not None and self._enforces:
            response_format = call.result_type.response_format()
            if response_format is not None:
                arguments.setdefault("response_format", response_format)
        return await self._router.acompletion(model=model, messages=list(messages), **arguments)

    def _answer(self, response: Any, *, of: str | None = None, latency_s: float | None = None) -> ModelAnswer[str]:
        deployment = of or str(origin_of(response).deployment_id)
        params = self._models.get(deployment, {})
        usage = response.usage
        message = response.choices[0].message if response.choices else None
        text = (message.content if message is not None else None) or ""
        return ModelAnswer(
            data=text,
            text=text,
            deployment_id=deployment,
            model=str(params.get("model", response.model)),
            cost_usd=cost_of(response) if of is None else cost_of_response(response, params) or None,
            latency_s=latency_of(response) if latency_s is None else latency_s,
            input_tokens=usage.prompt_tokens or 0,
            output_tokens=usage.completion_tokens or 0,
            repaired=False,
            response=response,
        )


class _ExcludeFailed(CustomLogger):
    """Excludes the deployments that a request has already failed with, as long as others are left.

    LiteLLM's own retries do this only for some errors.
    """

    async def async_filter_deployments(
        self, model: str, healthy_deployments: Any, messages: Any, request_kwargs: Any = None, *rest: Any, **more: Any
    ) -> Any:
        tried = {one.arms[one.chosen] for one in attempts_of_request.get() or ()}
        return [one for one in healthy_deployments if one["model_info"]["id"] not in tried] or healthy_deployments


_exclude_failed = _ExcludeFailed()


def _checked(entry: Mapping[str, Any]) -> dict[str, Any]:
    params = entry["litellm_params"]
    try:
        litellm.get_llm_provider(params["model"], params.get("custom_llm_provider"), params.get("api_base"))
    except exceptions.BadRequestError as error:
        raise ConfigurationError(
            f"LiteLLM knows no provider of model {params['model']!r}: write it as provider/model, such as "
            "openai/gpt-4.1 or, for a server that speaks OpenAI's API, hosted_vllm/NAME with api_base"
        ) from error
    # Retries inside a client would be attempts that Conduit does not see.
    return {**entry, "litellm_params": {"max_retries": 0, **params}}


def _combined(first: ModelAnswer[str], second: ModelAnswer[str]) -> ModelAnswer[str]:
    costs = (first.cost_usd, second.cost_usd)
    return replace(
        second,
        deployment_id=first.deployment_id,
        model=first.model,
        cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
        latency_s=first.latency_s + second.latency_s,
        input_tokens=first.input_tokens + second.input_tokens,
        output_tokens=first.output_tokens + second.output_tokens,
        repaired=True,
    )


def translated(error: BaseException) -> type[CompletionError]:
    """Return the service's error class for an error of LiteLLM's.

    Examples
    --------
    >>> translated(exceptions.Timeout("too slow", model="m", llm_provider="p")).__name__
    'ModelTimeoutError'
    """
    for theirs, ours in _KINDS:
        if isinstance(error, theirs):
            return ours
    status = str(getattr(error, "status_code", None))
    return kind_of_status(int(status)) if status.isdigit() else ModelUnavailableError


# The first matching class counts, so subclasses come before their base classes.
_KINDS: tuple[tuple[type[Exception], type[CompletionError]], ...] = (
    (exceptions.ContextWindowExceededError, ContextWindowError),
    (exceptions.ContentPolicyViolationError, ContentPolicyError),
    (exceptions.RejectedRequestError, ContentPolicyError),
    (exceptions.GuardrailRaisedException, ContentPolicyError),
    (exceptions.BlockedPiiEntityError, ContentPolicyError),
    (exceptions.AuthenticationError, AccessDeniedError),
    (exceptions.PermissionDeniedError, AccessDeniedError),
    (exceptions.BudgetExceededError, RateLimitedError),
    (exceptions.RateLimitError, RateLimitedError),
    (RouterRateLimitError, ModelUnavailableError),
    (RouterRateLimitErrorBasic, ModelUnavailableError),
    (exceptions.Timeout, ModelTimeoutError),
    (TimeoutError, ModelTimeoutError),
    (exceptions.APIConnectionError, ModelUnavailableError),
    (exceptions.APIResponseValidationError, ModelUnavailableError),
)
