"""The input of a selection: the deployments that may serve, and the request, independent of LiteLLM's types."""

from collections.abc import Iterator
from typing import NotRequired, Protocol, TypedDict

from conduit_policy import Request

__all__ = ["Deployment", "RoutingRequest"]


class DeploymentParams(TypedDict):
    """How a deployment is called."""

    model: str
    weight: NotRequired[float | None]
    """A weight of 0 excludes the deployment from the traffic."""


class DeploymentInfo(TypedDict):
    """How a deployment is identified."""

    id: str
    """The id that statistics are kept under. LiteLLM generates one if the configuration gives none."""


class Deployment(TypedDict):
    """One entry of a LiteLLM model list. Only the fields that Conduit reads are listed here."""

    model_name: NotRequired[str]
    """The model group."""
    litellm_params: DeploymentParams
    model_info: DeploymentInfo


class RoutingRequest(Protocol):
    """A request that needs a deployment. Each member is computed on access, since most are never needed."""

    @property
    def content(self) -> Request:
        """The part of the request that the featurizer reads."""
        ...

    @property
    def goal(self) -> object:
        """The request's own goal, not validated yet; None if it has none."""
        ...

    def scopes(self) -> Iterator[str]:
        """Yield the scopes whose overrides may apply: ``key:...`` and ``team:...``, the most specific first."""
        ...

    @property
    def user(self) -> str | None:
        """The user who makes the request, if known."""
        ...

    @property
    def session(self) -> str | None:
        """The session that the request belongs to, if any."""
        ...

    @property
    def id(self) -> object:
        """The id by which the caller knows the request."""
        ...

    @property
    def traces(self) -> tuple[str, ...]:
        """The ids of the request's trace. Several requests may share a trace."""
        ...

    @property
    def earlier_decision(self) -> str | None:
        """The id of the decision behind this request's previous, failed attempt, if any."""
        ...

    def stamp(self, decision_id: str) -> None:
        """Write the decision's id on the request, so that its outcome can be matched with the decision."""
        ...

    def clear_stamp(self) -> None:
        """Remove an earlier attempt's decision from a request that goes on without one."""
        ...
