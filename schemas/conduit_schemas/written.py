"""What people write: settings in files, variables, requests and on command lines, with their short forms and mistakes.

What travels in the log is read by :mod:`conduit_schemas.codec` instead, which takes the long forms alone and keeps what
it does not know.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from conduit_schemas.errors import ConfigurationError

__all__ = ["budget_form", "checked", "floor_form", "problem_of", "short", "unknown_name", "weights_form"]

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], fields: Mapping[str, Any], where: str) -> Model:
    """Return a model of what a person wrote, in which a name that does not exist is a mistake.

    What a person may write shorter is read here, and here alone: ``budget`` as ``25/day`` or ``1.5/1000_requests``,
    ``quality_floor`` as ``0.9@0.99`` or a share alone, ``objective`` as ``quality=1,cost=0.1`` (what that leaves
    out is 0) or as anything that has ``weights()``. The wire carries the long form only.

    Parameters
    ----------
    where
        What the fields belong to, for the message.

    Raises
    ------
    ConfigurationError
        When a name does not exist or a value cannot be used; the message says which and why.

    Examples
    --------
    >>> from conduit_schemas import RoutingGoal
    >>> checked(RoutingGoal, {"max_cost_usd": 0.01, "quality_floor": "0.9@0.99"}, "goal").quality_floor
    QualityFloor(relative=0.9, confidence=0.99)
    >>> checked(RoutingGoal, {"max_cost": 0.01}, "goal")
    Traceback (most recent call last):
    conduit_schemas.errors.ConfigurationError: goal: there is no 'max_cost'; there are objective, ...
    """
    try:
        made = model.model_validate(fields, context=_BY_A_PERSON)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {problem_of(error, fields)}") from error
    for path, part in _parts(made, ""):
        if part.model_extra:
            unknown = next(iter(part.model_extra))
            raise ConfigurationError(f"{where}: there is no {unknown_name(path + unknown, type(part).model_fields)}")
    return made


def problem_of(error: ValidationError, given: Mapping[str, Any], secret: Container[str] = ()) -> str:
    """Return what is wrong with what was given, in one line: the path to a value, the value, and why it is refused.

    Where a value may be of several kinds, the last one, a mapping, says most about what is wrong.

    Parameters
    ----------
    secret
        Names in ``given`` whose values are not to be shown.
    """
    first = error.errors(include_url=False)[-1]
    path: list[str] = []
    at: Any = given
    for part in first["loc"]:  # which also names the kinds that were tried, though nobody wrote them
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            is_missing = first["type"] == "missing" and part == first["loc"][-1]
            was_short = isinstance(at, str | float) and str(part).islower() and part not in _KINDS
            if not (is_missing or was_short):
                continue
        path.append(str(part))
    value = "..." if path and path[0] in secret else repr(first["input"])[:100]
    shown = "" if first["type"] == "missing" else f"={value}"
    return f"{'.'.join(path)}{shown}: {first['msg'].removeprefix('Value error, ')}"[:500]


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
    """Return the part of a message that says that a name does not exist: which, what there is, and what comes nearest.

    Examples
    --------
    >>> f"there is no {unknown_name('goal.max_cost', ['objective', 'max_cost_usd'])}"
    "there is no 'goal.max_cost'; there are objective, max_cost_usd (did you mean 'max_cost_usd'?)"
    """
    names = list(known)
    nearest = get_close_matches(str(name).rpartition(".")[2], names, n=1)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"{repr(name)[:100]}; {there} {', '.join(names)}{hint}"


_BY_A_PERSON: Mapping[str, bool] = {"by_a_person": True}
"""The context of a validation in which short forms are read; see :func:`checked`."""


def short(read: Callable[[Any], Any]) -> BeforeValidator:
    """Return a validator that reads a short form, where a person may have written it."""
    return BeforeValidator(lambda value, info: read(value) if info.context == _BY_A_PERSON else value)


def weights_form(model: type[BaseModel]) -> Callable[[Any], Any]:
    """Return what reads ``quality=1,cost=0.1``, or anything that has ``weights()``, for a model of weights."""
    names = model.model_fields
    usual = [name for name, weight in names.items() if weight.default is not None]

    def read(value: Any) -> Any:
        if isinstance(value, Mapping):
            for name, weight in value.items():
                if isinstance(weight, bool):  # pydantic would take it for 0 or 1
                    raise ValueError(f"weight {name} must be a number, not {weight}")
        if hasattr(value, "weights"):
            # A weight that was added later and counts for nothing is not written down: old records keep their hashes.
            return {name: weight for name, weight in value.weights().items() if weight or name in usual}
        if not isinstance(value, str) or "=" not in value:
            return value
        weights = dict.fromkeys(usual, 0.0)
        for part in value.split(","):
            name, _, number = part.partition("=")
            if name.strip() not in names:
                raise ValueError(f"unknown weight {unknown_name(name.strip(), names)}")
            weights[name.strip()] = _number(f"weight {name.strip()}", number)
        return weights

    return read


def budget_form(value: Any) -> Any:
    """Read ``25/day``."""
    if not isinstance(value, str):
        return value
    usd, slash, per = value.partition("/")
    if not slash:
        raise ValueError("give it as 25/day or 1.5/1000_requests")
    return {"usd": _number("the amount", usd), "per": per.strip()}


def floor_form(value: Any) -> Any:
    """Read ``0.9@0.99``, or a share alone."""
    if isinstance(value, str):
        relative, at, confidence = value.partition("@")
        floor = {"relative": _number("the share", relative)}
        return floor | ({"confidence": _number("the confidence", confidence)} if at else {})
    return {"relative": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{what} {text!r} is not a number") from None
