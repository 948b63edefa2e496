"""Reads what people write: settings in files, variables, requests and commands, with their short forms and mistakes.

The log is read by :mod:`conduit_schemas.codec` instead. It accepts the long forms only, and keeps unknown fields.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from conduit_schemas.errors import ConfigurationError

__all__ = [
    "automatic_form",
    "budget_form",
    "checked",
    "floor_form",
    "problem_of",
    "short",
    "unknown_name",
    "weights_form",
]

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], fields: Mapping[str, Any], where: str) -> Model:
    """Validate fields that a person wrote, and return them as a model. Unlike in the log, unknown names are refused.

    Only this function reads the short forms that people may write: ``budget`` as ``25/day`` or ``1.5/1000_requests``;
    ``quality_floor`` as ``0.9@0.99``, or as the share alone; ``automatic`` as ``promote,rollback``, or as one of them;
    ``objective`` as ``quality=1,cost=0.1``, as ``{"preset": "cost"}`` or as any object with a method ``weights()``. The
    log contains the long forms only.

    Parameters
    ----------
    where
        What the fields belong to, for the message; empty to leave it out.

    Raises
    ------
    ConfigurationError
        If a name does not exist, or a value cannot be used. The message says which and why.

    Examples
    --------
    >>> from conduit_schemas import RoutingGoal
    >>> checked(RoutingGoal, {"max_cost_usd": 0.01, "quality_floor": "0.9@0.99"}, "goal").quality_floor
    QualityFloor(relative=0.9, confidence=0.99)
    >>> checked(RoutingGoal, {"max_cost": 0.01}, "goal")
    Traceback (most recent call last):
    conduit_schemas.errors.ConfigurationError: goal: there is no 'max_cost'; there are objective, ...
    """
    place = f"{where}: " if where else ""
    try:
        made = model.model_validate(fields, context=_BY_A_PERSON)
    except ValidationError as error:
        raise ConfigurationError(f"{place}{problem_of(error, fields)}") from error
    for path, part in _parts(made, ""):
        if part.model_extra:
            unknown = next(iter(part.model_extra))
            raise ConfigurationError(f"{place}there is no {unknown_name(path + unknown, type(part).model_fields)}")
    return made


def problem_of(error: ValidationError, given: Mapping[str, Any], secret: Container[str] = ()) -> str:
    """Return one line that says what is wrong: the path to a value, the value, and why it is refused.

    If a value may be of several kinds, pydantic reports an error for each. The last kind is a mapping, and its error
    is the most helpful one.

    Parameters
    ----------
    given
        The fields that were validated.
    secret
        Names in ``given`` whose values must not be shown.
    """
    first = error.errors(include_url=False)[-1]
    path: list[str] = []
    at: Any = given
    for part in first["loc"]:  # pydantic's path also names the kinds that it tried, which are not in what was given
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            is_missing = first["type"] == "missing" and part == first["loc"][-1]
            was_short = isinstance(at, str | float) and str(part).islower() and part not in _KINDS
            if not (is_missing or was_short):
                continue
        path.append(str(part))
    message = first["msg"].removeprefix("Value error, ")
    if path and message.startswith((f"{path[-1]}=", f"{path[-1]}.")):
        return str(message[:500])  # a nested check has named the value already
    value = "..." if path and path[0] in secret else repr(first["input"])[:100]
    shown = "" if first["type"] == "missing" else f"={value}"
    return f"{'.'.join(path)}{shown}: {message}"[:500]


_KINDS = {"str", "int", "float", "bool", "dict", "list"}


def _parts(value: object, path: str) -> Iterator[tuple[str, BaseModel]]:
    if isinstance(value, BaseModel):
        yield path, value
        for name in type(value).model_fields:
            yield from _parts(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _parts(item, f"{path}{name}.")


def unknown_name(name: object, known: Iterable[str], there: str = "there are") -> str:
    """Return the part of a message about a name that does not exist: the name, the existing ones, and the nearest.

    Examples
    --------
    >>> f"there is no {unknown_name('goal.max_cost', ['objective', 'max_cost_usd'])}"
    "there is no 'goal.max_cost'; there are objective, max_cost_usd (did you mean 'max_cost_usd'?)"
    """
    names = list(known)
    nearest = get_close_matches(str(name)[-100:].rpartition(".")[2], names, n=1)  # a request may name anything
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"{repr(name)[:100]}; {there} {', '.join(names)}{hint}"


_BY_A_PERSON: Mapping[str, bool] = {"by_a_person": True}
"""The validation context in which short forms are read; see :func:`checked`."""


def short(read: Callable[[Any], Any]) -> BeforeValidator:
    """Return a validator that reads a short form, but only in input that a person wrote."""
    return BeforeValidator(lambda value, info: read(value) if info.context == _BY_A_PERSON else value)


def weights_form(model: type[BaseModel]) -> Callable[[Any], Any]:
    """Return a function that reads the short forms of an objective, for a model of weights.

    They are ``quality=1,cost=0.1``, ``{"preset": "cost"}`` and objects with ``weights()``. A weight that is not named
    keeps its default, as in a mapping.
    """
    names = model.model_fields
    usual = [name for name, weight in names.items() if weight.default is not None]

    def read(value: Any) -> Any:
        if isinstance(value, Mapping):
            if "preset" in value:
                return _preset(value)
            for name, weight in value.items():
                if isinstance(weight, bool):  # pydantic would read it as 0 or 1
                    raise ValueError(f"weight {name} must be a number, not {weight}")
        if hasattr(value, "weights"):
            # A weight that was added in a later version is left out if it is 0, so that old records keep their hashes.
            return {name: weight for name, weight in value.weights().items() if weight or name in usual}
        if not isinstance(value, str) or "=" not in value:
            return value
        weights = {}
        for part in value.split(","):
            name, _, number = part.partition("=")
            if name.strip() not in names:
                raise ValueError(f"unknown weight {unknown_name(name.strip(), names)}")
            weights[name.strip()] = _number(f"weight {name.strip()}", number)
        return weights

    return read


def _preset(value: Mapping[str, Any]) -> str:
    name = value["preset"]
    if len(value) > 1:
        raise ValueError("give a preset or weights, not both")
    if not isinstance(name, str):
        raise ValueError(f"preset must be a name, not {name!r}")
    return name


def budget_form(value: Any) -> Any:
    """Read ``25/day``."""
    if not isinstance(value, str):
        return value
    usd, slash, per = value.partition("/")
    if not slash:
        raise ValueError("give it as 25/day or 1.5/1000_requests")
    return {"usd": _number("the amount", usd), "per": per.strip()}


def floor_form(value: Any) -> Any:
    """Read ``0.9@0.99``, or the share alone."""
    if isinstance(value, str):
        relative, at, confidence = value.partition("@")
        floor = {"relative": _number("the share", relative)}
        return floor | ({"confidence": _number("the confidence", confidence)} if at else {})
    return {"relative": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def automatic_form(value: Any) -> Any:
    """Read ``promote,rollback``, or one of them."""
    if not isinstance(value, str):
        return value
    wanted = {part.strip() for part in value.split(",")}
    if unknown := sorted(wanted - set(_STEPS)):
        raise ValueError(f"there is no {unknown[0]!r}: give {', '.join(_STEPS)}, or both")
    return {step: step in wanted for step in _STEPS}


_STEPS = ("promote", "rollback")


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{what} {text!r} is not a number") from None
