"""A candidate to evaluate, described by a TOML file: how it learns and explores, and its objective."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conduit_log import StoredMessage
from conduit_policy import Objective, objective_of
from conduit_policy.algorithms import algorithm
from conduit_schemas import (
    ConfigurationError,
    LearningChange,
    LearningSettings,
    RecordError,
    RoutingGoal,
    checked,
    decode_event,
)

__all__ = ["Candidate", "logged_settings", "parse_candidate", "read_candidate"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to be evaluated; None means that this part stays as logged."""

    settings: LearningSettings | None
    objective: Objective | None
    features: tuple[int, ...] | None = None
    """Components of the context that it uses, always including the intercept."""


def read_candidate(path: Path, logged: LearningSettings) -> Candidate:
    """Return the candidate that a file describes; see :func:`parse_candidate`.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or its content is invalid.
    """
    try:
        return parse_candidate(path.read_text(encoding="utf-8"), logged)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except (ConfigurationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse_candidate(text: str, logged: LearningSettings) -> Candidate:
    """Return the candidate that a TOML text describes.

    Parameters
    ----------
    text
        A table ``settings`` with fields of :class:`conduit_schemas.LearningSettings`, an ``objective``, or a table of
        this name with a ``preset`` or weights, and a table ``features`` whose ``keep`` lists components of the logged
        contexts as numbers and ranges. If a table is missing, that part stays as logged.
    logged
        The settings in force in the log, used for missing fields. Parameters of one algorithm are never used for
        another.

    Examples
    --------
    >>> candidate = parse_candidate('''
    ... [settings]
    ... algorithm = "linucb"
    ... params = { alpha = 0.5 }
    ... [objective]
    ... preset = "cost"
    ... ''', LearningSettings(lambda_reg=2.0))
    >>> candidate.settings.params, candidate.settings.lambda_reg, candidate.objective.cost
    ({'alpha': 0.5}, 2.0, 0.2)
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"this is not TOML: {error}") from error
    _check_keys("the file", tables, ("settings", "objective", "features"))
    if not tables:
        raise ConfigurationError("the file is empty: give at least one of [settings], [objective] and [features]")
    for name, table in tables.items():
        if not isinstance(table, dict) and name != "objective":
            raise ConfigurationError(f"{name} must be a table, as in [{name}]")
    settings = _settings(tables["settings"], logged) if "settings" in tables else None
    return Candidate(
        settings=settings,
        objective=_objective(tables) if "objective" in tables else None,
        features=_features(tables["features"], settings or logged) if "features" in tables else None,
    )


def logged_settings(messages: Iterable[StoredMessage], policy: str) -> LearningSettings:
    """Return a policy's last settings in the log, or the defaults if there are none."""
    settings = LearningSettings()
    key = policy.encode()
    for message in messages:
        if message.key == key and b"settings" in message.value:
            try:
                event = decode_event(message.value)
            except RecordError:
                continue  # the learner did not use it either
            if isinstance(event, LearningChange):
                settings = event.settings
    return settings


def _settings(table: Mapping[str, Any], logged: LearningSettings) -> LearningSettings:
    kept = logged.model_dump()
    if table.get("algorithm", logged.algorithm) != logged.algorithm:
        kept["params"] = {}
    settings = checked(LearningSettings, {**kept, **table}, "[settings]")
    algorithm(settings)
    return settings


def _objective(tables: Mapping[str, Any]) -> Objective:
    return objective_of(checked(RoutingGoal, {"objective": tables["objective"]}, "the file"), Objective())


def _features(table: Mapping[str, Any], settings: LearningSettings) -> tuple[int, ...]:
    _check_keys("[features]", table, ("keep",))
    given = table.get("keep")
    if not isinstance(given, list):
        raise ConfigurationError('[features] keep must be a list of components, as in keep = ["0-15", 20]')
    kept = {0}
    for entry in given:
        found = _RANGE.match(str(entry))
        if found is None or isinstance(entry, bool):
            raise ConfigurationError(f'[features] keep has {entry!r}: use a number or a range "first-last"')
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < settings.dimension:
            raise ConfigurationError(
                f"[features] keep has {entry!r}, but {settings.featurizer} has components 0 to {settings.dimension - 1}"
            )
        kept.update(range(first, last + 1))
    return tuple(sorted(kept))


_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?\Z")


def _check_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise ConfigurationError(f"{where} has the unknown entry {unknown[0]!r}; known entries are {', '.join(known)}")
