"""Inserts choices into the selection of LiteLLM's router that is written in Rust, from version 1.110 on.

That router asks its Python side, step by step, for everything that it cannot answer by itself. If a request names a
strategy other than simple-shuffle, one of these steps passes the list of healthy deployments and asks for one of them.
Conduit therefore makes every request name such a strategy, and answers this step. If Conduit does not choose, the
router's own strategy answers. A registered strategy would not do: the router asks it before anything is filtered, and
does not tell it which deployments earlier attempts have failed with. Conduit therefore removes its registration.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

from litellm.router_strategy.simple_shuffle import simple_shuffle

from conduit_litellm.litellm_compat.attempt import Attempt
from conduit_litellm.litellm_compat.requests import LiteLLMRequest
from conduit_schemas import ConfigurationError

__all__ = ["RustRouter", "core_class", "is_entered_by", "is_rust"]

_ASKS = "least-busy"
"""Any strategy for which the router asks its Python side."""
_MARK = "conduit_router"
_REGISTERED, _SYNC, _ASSIGNED = (
    "_custom_strategy",
    "get_available_deployment",
    "_core_async_get_available_deployment",
)
"""The attributes of a registered strategy, its synchronous selection, and an asynchronous one assigned by hand."""


def core_class() -> type[Any] | None:
    """Return the class of the router's core, or None if LiteLLM's router is not written in Rust."""
    try:
        kind: type[Any] = import_module("litellm.router_rust.core").RustCore
    except ImportError:
        return None
    return kind


_CORE = core_class()


def is_rust(core: object) -> bool:
    """Return whether this is the core of a router written in Rust."""
    return _CORE is not None and isinstance(core, _CORE)


def is_entered_by(core: Any, new_attempt: Callable[[], Attempt]) -> bool:
    """Return whether every selection of a router starts with such an attempt."""
    entered = core.__dict__.get(_MARK)
    return isinstance(entered, RustRouter) and entered.is_on and entered.new_attempt == new_attempt


class RustRouter:
    """See :class:`~conduit_litellm.litellm_compat.attempt.RouterAccess`.

    It replaces three methods of the core, on the instance. As soon as another strategy is registered, or the router's
    settings change to another one, they behave like LiteLLM's own.

    Parameters
    ----------
    core
        The core behind the router's facade. The strategy must be registered on it already.
    new_attempt
        Called once per selection.
    select_sync
        The slot's method for synchronous calls. In the router's attributes, it shows that the slot is installed.

    Raises
    ------
    ConfigurationError
        If this version's router lacks one of these methods.
    """

    def __init__(self, core: Any, new_attempt: Callable[[], Attempt], select_sync: Any) -> None:
        self.new_attempt = new_attempt
        self._core = core
        self._kind = type(core)
        ours = {
            "_routing_fields": self._routing_fields,
            "_answer_select": self._answer_async,
            "_answer_select_sync": self._answer_sync,
        }
        missing = [name for name in ours if not hasattr(self._kind, name)]
        if missing:
            raise ConfigurationError(
                f"Conduit does not support the router of LiteLLM {version('litellm')} (it has no "
                f"{', '.join(missing)}): install a version that docs/parity.md lists"
            )
        core.__dict__.update(ours, **{_MARK: self, _REGISTERED: None, _SYNC: select_sync})
        core.__dict__.pop(_ASSIGNED, None)

    @property
    def is_on(self) -> bool:
        """Whether this strategy is still installed on the router."""
        state = self._core.__dict__
        return state[_REGISTERED] is None and _SYNC in state and state[_MARK] is self

    async def select_async(self, *, model: str, request_kwargs: dict[str, Any], **call: Any) -> Any:
        """Select for an asynchronous call."""
        return await self._kind.select(self._core, model, request_kwargs, **call)

    def select_sync(self, *, model: str, **call: Any) -> Any:
        """Select for a synchronous call."""
        return self._kind.get_available_deployment(self._core, model, **call)

    def _routing_fields(self, request: Mapping[str, Any], messages: Any = None) -> Mapping[str, Any]:
        fields: Mapping[str, Any] = self._kind._routing_fields(self._core, request, messages)
        return {**fields, "routing_strategy": _ASKS} if self.is_on else fields

    async def _answer_async(
        self, step: Mapping[str, Any], request: Any, messages: Any, input: Any, *, pass_through: bool = False
    ) -> Any:
        question = self._question(step, request, messages, input, pass_through)
        if question.answer is None:
            own = self._kind._answer_select
            question.answer_with(
                await own(self._core, question.step, request, messages, input, pass_through=pass_through)
            )
        return question.end()

    def _answer_sync(self, step: Mapping[str, Any], request: Any, messages: Any, input: Any) -> Any:
        question = self._question(step, request, messages, input, False)
        if question.answer is None:
            question.answer_with(self._kind._answer_select_sync(self._core, question.step, request, messages, input))
        return question.end()

    def _question(
        self, step: Mapping[str, Any], request: Any, messages: Any, input: Any, pass_through: bool
    ) -> "_Question":
        """Return the router's question, answered if Conduit or simple-shuffle can answer it."""
        core = self._core
        stage = step.get("stage") if self.is_on else None
        if stage not in {"strategy", "override_check"}:
            return _Question(step)
        strategy, selector = core._prefetch_strategy_and_selector(step["model"], request)
        scope, group = self._scope(selector)
        own = {**step, "strategy": strategy, "scope": scope, "group": group}
        if stage == "override_check":  # the request named its deployment; only an override strategy may veto it
            return _Question(
                own, request, self.new_attempt(), answer=None if scope == "override" else step["candidates"]
            )
        found: list[Any] = [dict(record) for record in step.get("records") or ()] or core._records_of(
            step["candidates"]
        )
        attempt = None if pass_through else self.new_attempt()
        picked = None
        if attempt is not None:
            picked = attempt.pick(step["model"], found, LiteLLMRequest(request, messages, input))
        if picked is None and selector is None:
            picked = simple_shuffle(
                resolve_model_alias=core._port.resolve_alias,
                healthy_deployments=found,
                model=step["model"],
                request_kwargs=request,
            )
        question = _Question(own, request, attempt, found)
        question.pick(picked)
        return question

    def _scope(self, selector: object) -> tuple[str, str | None]:
        """Return where LiteLLM keeps a strategy's selector: the kind of place, and the group if it belongs to one."""
        selectors = self._core._selectors
        if selector is selectors.default:
            return "default", None
        group = next((name for name, known in selectors._groups.items() if known is selector), None)
        return ("override", None) if group is None else ("group", group)


class _Question:
    """A step at which the router asks for a choice, and its answer once there is one."""

    def __init__(
        self,
        step: Mapping[str, Any],
        request: Any = None,
        attempt: Attempt | None = None,
        found: list[dict[str, Any]] | None = None,
        answer: Any = None,
    ) -> None:
        self.step = step
        self.answer = answer
        self._request = request
        self._attempt = attempt
        self._found = found or []

    def pick(self, deployment: Any) -> None:
        """Answer with one of the deployments. None leaves the question open."""
        if deployment is None:
            return
        if self.step.get("records") is None:
            self.answer = [deployment["model_info"]["id"]]
        else:  # several may share an id, so the router expects a position
            self.answer = [next(place for place, one in enumerate(self._found) if one is deployment)]

    def answer_with(self, answer: Any) -> None:
        """Answer with the choice of LiteLLM's own strategy."""
        self.answer = answer

    def end(self) -> Any:
        """Report the selected deployment to the attempt, if there is one, and return the answer."""
        if self._attempt is not None and self.answer:
            self._attempt.finish(self._selected(self.answer[0]), LiteLLMRequest(self._request))
        return self.answer

    def _selected(self, answer: Any) -> Any:
        if isinstance(answer, int):
            return self._found[answer]
        return next((one for one in self._found if one["model_info"]["id"] == answer), {})
