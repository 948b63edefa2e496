"""Every error that LiteLLM raises has its place in the tree of errors."""

import inspect

import httpx
import pytest
from litellm import exceptions
from litellm.types.router import RouterRateLimitError
from pydantic_ai.exceptions import ContentFilterError, ModelAPIError, ModelHTTPError, UserError

from conduit_litellm import ConduitError, ConduitRoutingStrategy
from conduit_litellm.service import errors
from conduit_litellm.service.litellm_backend import translated
from conduit_litellm.service.pydantic_ai_backend import PydanticAIBackend

PLACES = {
    "AuthenticationError": "AccessDeniedError",
    "PermissionDeniedError": "AccessDeniedError",
    "PaymentRequiredError": "AccessDeniedError",
    "NotFoundError": "RequestRefusedError",
    "BadRequestError": "RequestRefusedError",
    "UnprocessableEntityError": "RequestRefusedError",
    "UnsupportedParamsError": "RequestRefusedError",
    "ContextWindowExceededError": "ContextWindowError",
    "ContentPolicyViolationError": "ContentPolicyError",
    "RejectedRequestError": "ContentPolicyError",
    "GuardrailRaisedException": "ContentPolicyError",
    "BlockedPiiEntityError": "ContentPolicyError",
    "RateLimitError": "RateLimitedError",
    "BudgetExceededError": "RateLimitedError",
    "Timeout": "ModelTimeoutError",
    "ServiceUnavailableError": "ModelUnavailableError",
    "BadGatewayError": "ModelUnavailableError",
    "InternalServerError": "ModelUnavailableError",
    "APIConnectionError": "ModelUnavailableError",
    "APIError": "ModelUnavailableError",
    "MidStreamFallbackError": "ModelUnavailableError",
}
VALUES = {
    "message": "m",
    "model": "m",
    "llm_provider": "p",
    "request_data": {},
    "current_cost": 1.0,
    "max_budget": 1.0,
    "status_code": 500,
    "entity_type": "x",
    "guardrail_name": "x",
    "response": httpx.Response(400, request=httpx.Request("POST", "http://provider")),
}


@pytest.mark.parametrize("name", PLACES)
def test_errors_of_litellm(name):
    theirs = getattr(exceptions, name)
    needed = [
        parameter.name
        for parameter in inspect.signature(theirs).parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    error = theirs(**{name: VALUES.get(name) for name in needed})
    assert translated(error).__name__ == PLACES[name]


def test_everything_else_means_that_no_model_was_available():
    cooling = RouterRateLimitError(model="m", cooldown_time=1.0, enable_pre_call_checks=False, cooldown_list=[])
    assert translated(cooling) is errors.ModelUnavailableError
    assert translated(RuntimeError("boom")) is errors.ModelUnavailableError
    assert translated(TimeoutError()) is errors.ModelTimeoutError


def test_the_tree_is_as_its_picture_says():
    picture = errors.__doc__.split("::")[1]
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type):
            assert issubclass(kind, ConduitError) and name in picture
    assert issubclass(errors.ContextWindowError, errors.RequestRefusedError)
    assert issubclass(errors.ModelTimeoutError, TimeoutError)


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (ModelHTTPError(401, "m"), "AccessDeniedError"),
        (ModelHTTPError(404, "m"), "RequestRefusedError"),
        (ModelHTTPError(429, "m"), "RateLimitedError"),
        (ModelHTTPError(504, "m"), "ModelTimeoutError"),
        (ModelHTTPError(400, "m", body={"code": "context_length_exceeded"}), "ContextWindowError"),
        (ModelAPIError("m", "Request timed out."), "ModelTimeoutError"),
        (ModelAPIError("m", "Connection error."), "ModelUnavailableError"),
        (ContentFilterError("no"), "ContentPolicyError"),
        (UserError("no"), "RequestRefusedError"),
        (RuntimeError("boom"), "ModelUnavailableError"),
    ],
)
def test_errors_of_pydantic_ai(error, place, tmp_path):
    strategy = ConduitRoutingStrategy(log_path=tmp_path, host_learner=False)
    backend = PydanticAIBackend(strategy, [], [], retries=0)
    assert backend.translate(error).__name__ == place
