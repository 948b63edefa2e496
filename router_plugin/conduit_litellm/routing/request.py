"""What a selection is given: the deployments that may serve, and the request, whoever carries it."""

from collections.abc import Iterator
from typing import NotRequired, Protocol, TypedDict

from conduit_policy import Request

__all__ = ["Deployment", "RoutingRequest"]


class DeploymentParams(TypedDict):
    """How a deployment is called."""

    model: str
    weight: NotRequired[float | None]
    """0 takes the deployment out of the traffic."""


class DeploymentInfo(TypedDict):
    """What a deployment is."""

    id: str
    """What is learned about; LiteLLM makes one up where the configuration gives none."""


class Deployment(TypedDict):
    """One entry of a LiteLLM model list, with the fields that Conduit reads; there may be any others."""

    model_name: NotRequired[str]
    """The model group."""
    litellm_params: DeploymentParams
    model_info: DeploymentInfo


class RoutingRequest(Protocol):
    """A request on its way to a deployment. Each member is worked out when it is asked for, which most never are."""

    @property
    def content(self) -> Request:
        """What the featurizer reads."""
        ...

    @property
    def goal(self) -> object:
        """What the request says that it wants for itself, not checked yet; None where it says nothing."""
        ...

    def scopes(self) -> Iterator[str]:
        """Yield whose overrides may hold: ``key:...`` and ``team:...``, the most particular first."""
        ...

    @property
    def user(self) -> str | None:
        """Who is asking, where that is known."""
        ...

    @property
    def session(self) -> str | None:
        """The session that the request belongs to, if any."""
        ...

    @property
    def id(self) -> object:
        """What the caller knows the request by."""
        ...

    @property
    def traces(self) -> tuple[str, ...]:
        """The ids of the trace that the request belongs to; several requests may share one."""
        ...

    @property
    def earlier_decision(self) -> str | None:
        """The id of the decision of the attempt that this very request has just failed with, if any."""
        ...

    def stamp(self, decision_id: str) -> None:
        """Write the decision's id on the request, so that what becomes of it can be told."""
        ...

    def clear_stamp(self) -> None:
        """Take an earlier attempt's decision off a request that goes on without one."""
        ...
