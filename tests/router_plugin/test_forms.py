"""What people write has the same forms wherever it is written."""

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from conduit_learner.cli import main
from conduit_learner.evaluation.candidate_file import parse_candidate
from conduit_learner.view.policy import PolicyView
from conduit_learner.web.routing_changes import changed_routing
from conduit_litellm import ConfigurationError, create_service
from conduit_litellm.events.counters import Counters
from conduit_litellm.proxy.settings import read_settings
from conduit_litellm.routing.request_goal import RequestGoals
from conduit_litellm.service import CompletionError
from conduit_log import LogSettings, Message, open_log
from conduit_policy import Objective, objective_of
from conduit_schemas import (
    AutomaticRollout,
    Budget,
    LearningSettings,
    QualityFloor,
    RoutingChange,
    RoutingGoal,
    RoutingSettings,
    Weights,
    encode,
)

TEXT, WRITTEN, OBJECT = 0, 1, 2
"""What a place takes: text alone, also what a file can hold, also Python's objects."""

FORMS: dict[str, list[tuple[Any, list[Any]]]] = {
    "objective": [
        (Objective.preset("speed"), ["speed", {"preset": "speed"}, Objective.preset("speed")]),
        (Objective(cost=0.3), ["cost=0.3", " quality = 1, cost = 0.3", {"cost": 0.3}, {"quality": 1, "cost": 0.3}]),
        (Objective(cost=0.3), [Objective(cost=0.3), Weights(cost=0.3)]),
        (Objective(quality=0.0, cost=1.0), ["quality=0,cost=1", {"quality": 0, "cost": 1}]),
        (Objective(ttft=0.1), ["ttft=0.1", {"ttft": 0.1}, Objective(ttft=0.1)]),
    ],
    "budget": [
        (Budget(usd=25.0), ["25/day", {"usd": 25}, {"usd": 25, "per": "day"}, Budget(usd=25.0)]),
        (Budget(usd=1.5, per="1000_requests"), ["1.5/1000_requests", {"usd": 1.5, "per": "1000_requests"}]),
    ],
    "quality_floor": [
        (
            QualityFloor(relative=0.9, confidence=0.99),
            ["0.9@0.99", {"relative": 0.9, "confidence": 0.99}, QualityFloor(relative=0.9, confidence=0.99)],
        ),
        (QualityFloor(relative=0.9), ["0.9", 0.9, {"relative": 0.9}]),
    ],
    "automatic": [
        (AutomaticRollout(), ["promote,rollback", "rollback, promote", {"promote": True}, {}, AutomaticRollout()]),
        (AutomaticRollout(promote=False), ["rollback", {"promote": False}, AutomaticRollout(promote=False)]),
    ],
}
"""Every setting with several forms: what it is to be, and the forms that say so."""

Found = RoutingSettings | RoutingGoal | Objective | None
Reader = Callable[[str, Any], Found]


class Place(NamedTuple):
    settings: tuple[str, ...]
    takes: int
    read: str
    """The fixture that reads a form there."""


GOAL = ("objective", "budget", "quality_floor")
ALL = (*GOAL, "automatic")
PLACES = {
    "constructor": Place(ALL, OBJECT, "constructor"),
    "overrides": Place(GOAL, OBJECT, "overrides"),
    "proxy YAML": Place(ALL, WRITTEN, "section"),
    "proxy YAML, overrides": Place(GOAL, WRITTEN, "section_overrides"),
    "proxy environment": Place(ALL, WRITTEN, "environment"),
    "create_service": Place(ALL, OBJECT, "service_settings"),
    "service.complete": Place(("objective", "quality_floor"), OBJECT, "service_request"),
    "request metadata": Place(("objective", "quality_floor"), WRITTEN, "metadata"),
    "request metadata as JSON": Place(("objective", "quality_floor"), WRITTEN, "json_metadata"),
    "conduit routing set": Place(ALL, TEXT, "options"),
    "conduit routing set --file": Place(ALL, WRITTEN, "file"),
    "candidate file": Place(("objective",), WRITTEN, "candidate"),
    "web page": Place(("objective",), WRITTEN, "page"),
}


def arguments(setting: str, form: Any) -> dict[str, Any]:
    """Return the arguments of a strategy in which a form stands."""
    if setting == "automatic":
        return {"rollout": {"automatic": form}}
    return {"objective": form} if setting == "objective" else {"constraints": {setting: form}}


def of_team(setting: str, form: Any) -> dict[str, Any]:
    return {"overrides": {"team:a": {setting: form}}}


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(item)}" for name, item in value.items()) + "}"
    return json.dumps(value)


@pytest.fixture
def constructor(new_strategy) -> Reader:
    return lambda setting, form: new_strategy(**arguments(setting, form))._directives.own


@pytest.fixture
def overrides(new_strategy) -> Reader:
    return lambda setting, form: new_strategy(**of_team(setting, form))._directives.own.overrides["team:a"]


@pytest.fixture
def section(new_strategy) -> Reader:
    def read(setting, form):
        return new_strategy(**read_settings(arguments(setting, form), "config.yaml", {}))._directives.own

    return read


@pytest.fixture
def section_overrides(new_strategy) -> Reader:
    def read(setting, form):
        settings = read_settings(of_team(setting, form), "config.yaml", {})
        return new_strategy(**settings)._directives.own.overrides["team:a"]

    return read


@pytest.fixture
def environment(new_strategy) -> Reader:
    def read(setting, form):
        ((name, value),) = arguments(setting, form).items()
        variables = {f"CONDUIT_{name.upper()}": value if isinstance(value, str) else json.dumps(value)}
        return new_strategy(**read_settings(None, "config.yaml", variables))._directives.own

    return read


@pytest.fixture
def service_settings(tmp_path) -> Reader:
    async def read(given: dict[str, Any]) -> RoutingSettings:
        service = await create_service(
            models=["openai/gpt-4.1"], host_learner=False, log_path=tmp_path / "log", **given
        )
        await service.aclose(timeout_s=0.0)
        return service.strategy._directives.own

    return lambda setting, form: asyncio.run(read(arguments(setting, form)))


@pytest.fixture
def service_request(tmp_path) -> Reader:
    """What goes to LiteLLM with a request of a service."""

    async def read(wants: dict[str, Any]) -> RoutingGoal:
        service = await create_service(models=["openai/gpt-4.1"], host_learner=False, log_path=tmp_path / "log")
        calls: list[Any] = []

        async def complete(call: Any) -> None:
            calls.append(call)
            raise CompletionError("this is far enough")

        service._backend.complete = complete
        try:
            with pytest.raises(CompletionError, match="far enough"):
                await service.complete("Hello?", **wants)
        finally:
            await service.aclose(timeout_s=0.0)
        return RoutingGoal.model_validate(calls[0].metadata["conduit"])

    return lambda setting, form: asyncio.run(read(arguments(setting, form)))


@pytest.fixture
def metadata() -> Reader:
    return lambda setting, form: RequestGoals(Counters()).read({setting: form})


@pytest.fixture
def json_metadata() -> Reader:
    return lambda setting, form: RequestGoals(Counters()).read(json.dumps({setting: form}))


@pytest.fixture
def command(tmp_path) -> Callable[..., RoutingSettings]:
    """Return what runs ``conduit routing set`` on a log that exists."""
    settings = LogSettings.resolve(bootstrap_servers=None, path=tmp_path / "log")
    change = RoutingChange(policy="default/chat", time=0.0, routing=RoutingSettings(), origin="application")

    async def introduce() -> None:
        async with open_log(settings) as log:
            await log.append(settings.topics.events, [Message(b"default/chat", encode(change))])

    def run(*given: str) -> RoutingSettings:
        where = ("--policy", "default/chat", "--path", str(tmp_path / "log"))
        result = CliRunner().invoke(main, ["routing", "set", "--json", *where, *given])
        if result.exit_code:
            raise ConfigurationError(result.output)
        return RoutingSettings.model_validate(json.loads(result.output)["routing"])

    asyncio.run(introduce())
    return run


@pytest.fixture
def options(command) -> Reader:
    return lambda setting, form: command(f"--{setting.replace('_', '-')}", form)


@pytest.fixture
def file(command, tmp_path) -> Reader:
    def read(setting, form):
        where = "" if setting == "automatic" else "[goal]\n"
        (tmp_path / "routing.toml").write_text(f"{where}{setting} = {toml(form)}\n")
        return command("--file", str(tmp_path / "routing.toml"))

    return read


@pytest.fixture
def candidate() -> Reader:
    return lambda setting, form: parse_candidate(f"{setting} = {toml(form)}", LearningSettings()).objective


@pytest.fixture
def page() -> Reader:
    def read(setting, form):
        return changed_routing(PolicyView("default/chat"), {"by": "ann", setting: form}, now_s=0.0).routing

    return read


@pytest.fixture
def read(request: pytest.FixtureRequest, place: str) -> Reader:
    reader: Reader = request.getfixturevalue(PLACES[place].read)
    return reader


def has(place: str, setting: str, form: Any) -> bool:
    takes = TEXT if isinstance(form, str) else WRITTEN if isinstance(form, dict | float) else OBJECT
    return setting in PLACES[place].settings and takes <= PLACES[place].takes


def everywhere() -> Iterator[Any]:
    for place, setting in product(PLACES, FORMS):
        for wanted, forms in FORMS[setting]:
            for form in forms:
                if has(place, setting, form):
                    yield pytest.param(place, setting, form, wanted, id=f"{place}, {setting}, {form}")


@pytest.mark.parametrize(("place", "setting", "form", "wanted"), list(everywhere()))
def test_each_place_takes_each_form_of_what_can_be_set_there(place, setting, form, wanted, read):
    found = read(setting, form)
    if setting == "automatic":
        assert found.automatic == wanted
        return
    goal = found.goal if isinstance(found, RoutingSettings) else found
    if setting == "objective":
        assert (goal if isinstance(goal, Objective) else objective_of(goal, Objective())) == wanted
    else:
        assert getattr(goal, setting) == wanted


MISTAKES = [
    ("objective", "best", "no objective preset 'best'"),
    ("objective", {"preset": "best"}, "no objective preset 'best'"),
    ("objective", {"preset": "cost", "cost": 1}, "give a preset or weights, not both"),
    ("objective", {"preset": 3}, "preset must be a name, not 3"),
    ("objective", "price=1", "unknown weight 'price'"),
    ("budget", "25", "give it as 25/day"),
    ("quality_floor", "much", "the share 'much' is not a number"),
    ("automatic", "demote", "there is no 'demote': give promote, rollback, or both"),
]


@pytest.mark.parametrize(
    ("place", "setting", "form", "said"),
    [
        pytest.param(place, setting, form, said, id=f"{place}, {setting}, {form}")
        for place, (setting, form, said) in product(PLACES, MISTAKES)
        if has(place, setting, form)
    ],
)
def test_each_place_refuses_what_is_no_form(place, setting, form, said, read, caplog):  # noqa: PLR0917 - parameters
    if "metadata" in place:  # a request is served without it
        assert read(setting, form) is None
        assert said in caplog.text
    else:
        with pytest.raises(ConfigurationError, match=said):
            read(setting, form)


@pytest.mark.parametrize("form", ["3/day", {"usd": 3}, Budget(usd=3.0)])
def test_a_request_has_no_budget_of_its_own(form, service_request):
    with pytest.raises(ConfigurationError, match="a request cannot set 'budget'; it can set objective"):
        service_request("budget", form)
