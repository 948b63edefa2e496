"""Creates a service from an application's arguments: the strategy, the backend, and the service that uses both."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, assert_never, get_args

from conduit_litellm.service.backend import Backend
from conduit_litellm.service.litellm_backend import LiteLLMBackend
from conduit_litellm.service.models import Model, deployments, wanted_models
from conduit_litellm.service.result_type import result_type_of
from conduit_litellm.service.service import Service
from conduit_litellm.settings import SETTINGS
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas import ConfigurationError, policy_name, unknown_name

__all__ = ["create_service"]

ExecutionBackend = Literal["litellm", "pydantic_ai"]


async def create_service(
    execution_backend: ExecutionBackend = "litellm",
    models: Iterable[Model] | None = None,
    default_result_type: type[Any] | None = None,
    *,
    fallbacks: Iterable[Model] = (),
    retries: int = 2,
    timeout_s: float = 60.0,
    name: str = "service",
    learn_from_validation: bool = True,
    router_options: Mapping[str, Any] | None = None,
    **strategy_settings: Any,
) -> Service:
    """Create a service that chooses a model for each request, calls it, and learns from the result.

    Parameters
    ----------
    execution_backend
        Who calls the models: ``litellm``, or ``pydantic_ai`` (needs ``pip install 'conduit-litellm[pydantic-ai]'``).
    models
        The models to choose from: LiteLLM's names, such as ``"openai/gpt-4.1"``, or mappings of LiteLLM's parameters
        with a ``model`` and, if the same model is listed twice, an ``id``. By default, those in the environment
        variable ``CONDUIT_MODELS``, separated by commas; without that variable, a small and a large model of each
        common provider whose key is in the environment.
    default_result_type
        The type that answers must have, unless a request asks for another one: any type that pydantic can validate.
        With None or ``str``, a result is the answer's text.
    fallbacks
        Models that serve if all others have failed.
    retries
        Number of further attempts after the first. Each uses a model that has not failed yet, if there is one.
    timeout_s
        Seconds that each attempt may take.
    name
        Name of the policy. Services with the same name share what they learn.
    learn_from_validation
        Whether validation gives feedback on quality: 1 for a valid answer, 0.5 for one that had to be repaired, 0 for
        one that could not be repaired. The feedback's source is ``validation``.
    router_options
        Further arguments of LiteLLM's ``Router`` (not with ``pydantic_ai``).
    strategy_settings
        Further arguments of :class:`~conduit_litellm.ConduitRoutingStrategy`, such as ``bootstrap_servers``,
        ``log_path``, ``objective`` or ``bandit_algorithm``: the fields of
        :class:`~conduit_litellm.settings.StrategySettings` except ``model_groups``.

    Raises
    ------
    ConfigurationError
        If an argument is invalid, if there are no models, or if a package that the backend needs is not installed.

    Examples
    --------
    >>> import asyncio
    >>> service = asyncio.run(create_service(models=["openai/gpt-4.1", "anthropic/claude-sonnet-4-5"],
    ...                                      objective="cost", host_learner=False))
    >>> service.supported_models()
    ['openai/gpt-4.1', 'anthropic/claude-sonnet-4-5']
    >>> asyncio.run(service.aclose())
    """
    _check(execution_backend, fallbacks, retries, timeout_s, strategy_settings)
    default = result_type_of(default_result_type)
    pool = deployments(wanted_models(models), name)
    spare = deployments(fallbacks, f"{name}-fallback", argument="fallbacks")
    strategy = ConduitRoutingStrategy(**strategy_settings)
    backend: Backend
    match execution_backend:
        case "litellm":
            backend = LiteLLMBackend(strategy, pool, spare, retries=retries, options=router_options or {})
        case "pydantic_ai":
            backend = _pydantic_ai(strategy, pool, spare, retries, router_options)
        case _:
            assert_never(execution_backend)
    return Service(
        strategy,
        backend,
        policy=policy_name(strategy_settings.get("namespace", SETTINGS["namespace"]), name),
        models=list(dict.fromkeys(entry["litellm_params"]["model"] for entry in (*pool, *spare))),
        default=default,
        timeout_s=timeout_s,
        learn_from_validation=learn_from_validation,
    )


def _check(backend: str, fallbacks: object, retries: int, timeout_s: float, settings: Mapping[str, Any]) -> None:
    backends = get_args(ExecutionBackend)
    if backend not in backends:
        raise ConfigurationError(f"execution_backend={backend!r} must be one of {', '.join(backends)}")
    if isinstance(fallbacks, (str, Mapping)):
        raise ConfigurationError(f"fallbacks={fallbacks!r} must be a list")
    if not (isinstance(retries, int) and retries >= 0):
        raise ConfigurationError(f"retries={retries!r} must be 0 or more")
    if not timeout_s > 0.0:
        raise ConfigurationError(f"timeout_s={timeout_s!r} must be above 0")
    known = [name for name in SETTINGS if name != "model_groups"]  # the service has exactly one group, its own
    for name in settings:
        if name not in known:
            raise ConfigurationError(f"create_service has no argument {unknown_name(name, known)}")


def _pydantic_ai(
    strategy: ConduitRoutingStrategy,
    pool: list[dict[str, Any]],
    spare: list[dict[str, Any]],
    retries: int,
    router_options: Mapping[str, Any] | None,
) -> Backend:
    if router_options:
        raise ConfigurationError(
            "router_options are for LiteLLM's Router, which execution_backend='pydantic_ai' does not use"
        )
    try:
        from conduit_litellm.service.pydantic_ai_backend import PydanticAIBackend  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"execution_backend='pydantic_ai' needs pip install 'conduit-litellm[pydantic-ai]' ({error})"
        ) from error
    return PydanticAIBackend(strategy, pool, spare, retries=retries)
