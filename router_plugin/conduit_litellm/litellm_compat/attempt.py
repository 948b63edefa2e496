"""The two sides of a selection: the strategy's and the router's."""

from typing import Any, Protocol

from conduit_litellm.routing.request import Deployment, RoutingRequest

__all__ = ["Attempt", "RouterAccess"]


class Attempt(Protocol):
    """One selection as the strategy sees it."""

    def pick(self, model: str, deployments: list[Deployment], request: RoutingRequest) -> Deployment | None:
        """Pick one of the healthy deployments, or return None to let LiteLLM pick. Never raises."""
        ...

    def finish(self, deployment: Deployment, request: RoutingRequest) -> None:
        """Record the deployment that was selected in the end. Never raises."""
        ...


class RouterAccess(Protocol):
    """One router's own selection, into which Conduit's choices are inserted."""

    async def select_async(
        self, *, model: str, request_kwargs: dict[str, Any], messages: Any, input: Any, specific_deployment: bool | None
    ) -> Any:
        """Select for an asynchronous call."""
        ...

    def select_sync(
        self,
        *,
        model: str,
        request_kwargs: dict[str, Any] | None,
        messages: Any,
        input: Any,
        specific_deployment: bool | None,
    ) -> Any:
        """Select for a synchronous call."""
        ...
