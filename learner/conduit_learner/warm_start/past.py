"""Convert existing request logs into events, so that Conduit can learn from traffic before its installation.

Each row is one finished request, from a LiteLLM spend-log export (with its own column names) or from your own log with
the names in :data:`COLUMNS`. The resulting events are ordinary events with a mark: every selection has the flag
``warm_start``. If the probability with which the deployment was chosen is unknown, the selection also has the fallback
``warm_start``, so that an evaluation does not mistake it for one of Conduit's decisions.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from conduit_learner.warm_start.files import read_rows
from conduit_policy import Featurizer, Request, featurizer_of, pack_context
from conduit_policy.vectors import INTERCEPT, context_bytes
from conduit_schemas import (
    ConfigurationError,
    Fallback,
    Feedback,
    Flag,
    Outcome,
    OutcomeStatus,
    Selection,
)

__all__ = ["COLUMNS", "MARK", "Past", "read_past"]

MARK = Flag.WARM_START.value
"""The source of imported outcomes and ratings."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "request_id": ("request_id", "id"),
    "arm": ("arm", "model_id", "deployment_id"),
    "model": ("model",),
    "group": ("model_group",),
    "status": ("status",),
    "cost_usd": ("cost_usd", "spend"),
    "latency_s": ("latency_s", "request_duration_s"),
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "start": ("start", "startTime", "time"),
    "end": ("end", "endTime"),
    "quality": ("quality",),
    "messages": ("messages",),
    "prompt": ("prompt", "text"),
    "request": ("proxy_server_request",),
    "arms": ("arms",),
    "probabilities": ("probabilities",),
    "cache_hit": ("cache_hit",),
}
"""The fields read from a row, each with its possible column names; only the deployment is required."""

_Events = tuple[Selection | Outcome | Feedback, ...]


@dataclass(slots=True)
class Past:
    """The requests found in the files."""

    events: list[_Events] = field(default_factory=list)
    """The events of each request, in the order in which to append them."""
    with_quality: int = 0
    with_text: int = 0
    with_probabilities: int = 0
    other_groups: int = 0
    """Number of requests of other model groups, which are left out."""
    unserved: int = 0
    """Number of requests that failed before a deployment was chosen, which are left out."""
    arms: tuple[str, ...] = ()
    rows_without_id: Counter[str] = field(default_factory=Counter)
    """How often each row without an id occurred, by its content."""


def read_past(
    files: Sequence[Path],
    policy: str,
    *,
    renamed: Mapping[str, str] | None = None,
    featurizer: str | Featurizer | None = None,
) -> Past:
    """Read request logs and convert them into events.

    Parameters
    ----------
    files
        ``.jsonl``, ``.json`` (a list), ``.csv`` or ``.parquet``.
    policy
        ``namespace/group``; rows that name another model group are left out.
    renamed
        Maps the files' names for deployments to deployment ids.
    featurizer
        Computes contexts from prompts. It must be the one that the policy's applications use; see
        :func:`conduit_policy.featurizer_of`.

    Raises
    ------
    ConfigurationError
        When a file cannot be read or a row is invalid. The message names the file and row.
    """
    group = policy.partition("/")[2]
    rows: list[tuple[str, dict[str, Any]]] = []
    past = Past()
    for file in files:
        for number, row in enumerate(read_rows(file), 1):
            found = _known(row)
            where = f"{file}, row {number}"
            if found["group"] not in (None, "", group):
                past.other_groups += 1
                continue
            arm = found["arm"] or found["model"]
            if not arm and _status(found) is OutcomeStatus.ERROR:
                past.unserved += 1  # a proxy also logs the requests it refused
                continue
            if not arm:
                raise ConfigurationError(f"{where} names no deployment: it needs one of {', '.join(COLUMNS['arm'])}")
            found["arm"] = (renamed or {}).get(str(arm), str(arm))
            rows.append((where, found))
    if all(row["start"] is not None for _, row in rows):
        rows.sort(key=_started)  # exports often start with the newest row, but events must be learned oldest first
    past.arms = tuple(sorted({row["arm"] for _, row in rows}))
    seeing = featurizer_of(featurizer)
    for where, row in rows:
        try:
            past.events.append(_events(row, policy, past, seeing))
        except (ValueError, TypeError, ValidationError) as error:
            raise ConfigurationError(f"{where}: {_explained(error)}") from error
    return past


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: next((row[column] for column in columns if row.get(column) not in (None, "")), None)
        for name, columns in COLUMNS.items()
    }


def _events(row: Mapping[str, Any], policy: str, past: Past, featurizer: Featurizer) -> _Events:
    arm = row["arm"]
    arms, probabilities = _decoded(row["arms"]), _decoded(row["probabilities"])
    if probabilities is not None and arms is None:
        raise ValueError("probabilities need the list of arms that they belong to")
    arms = tuple(map(str, arms)) if arms else past.arms
    if arm not in arms:
        raise ValueError(f"deployment {arm!r} is not among the arms {', '.join(arms)}")
    start = _time(row["start"])
    identity = row["request_id"] or _numbered(json.dumps(row, sort_keys=True, default=str), past.rows_without_id)
    decision_id = f"warm-{blake2b(str(identity).encode(), digest_size=12).hexdigest()}"
    context = _context(row, featurizer)
    # Without a prompt there is only the intercept, so the request teaches the deployment's general level.
    level_only = INTERCEPT + bytes(context_bytes(featurizer.dimension - 1))
    selection = Selection(
        policy=policy,
        time=start or 0.0,
        decision_id=decision_id,
        arms=arms,
        chosen=arms.index(arm),
        probabilities=None if probabilities is None else tuple(map(float, probabilities)),
        fallback=Fallback.WARM_START if probabilities is None else None,
        featurizer=featurizer.name,
        context=context or level_only,
        flags=(Flag.WARM_START,),
    )
    end, latency = _time(row["end"]), _number(row["latency_s"])
    if latency is None and start is not None and end is not None and end > start:
        latency = end - start
    outcome = Outcome(
        policy=policy,
        time=end or start or 0.0,
        decision_id=decision_id,
        status=_status(row),
        cost_usd=_number(row["cost_usd"]),
        latency_s=latency,
        input_tokens=_count(row["input_tokens"]),
        output_tokens=_count(row["output_tokens"]),
        source=MARK,
    )
    past.with_text += context is not None
    past.with_probabilities += probabilities is not None
    quality = _number(row["quality"])
    if quality is None:
        return selection, outcome
    past.with_quality += 1
    return (
        selection,
        outcome,
        Feedback(policy=policy, time=outcome.time, decision_id=decision_id, quality=quality, source=MARK),
    )


def _status(row: Mapping[str, Any]) -> OutcomeStatus:
    if str(row["cache_hit"]).lower() == "true":
        return OutcomeStatus.CACHE_HIT
    return OutcomeStatus.SUCCESS if str(row["status"] or "success").lower() == "success" else OutcomeStatus.ERROR


def _context(row: Mapping[str, Any], featurizer: Featurizer) -> bytes | None:
    request = _request(row)
    return None if request is None else pack_context(featurizer(request))


def _request(row: Mapping[str, Any]) -> Request | None:
    """Return the request. LiteLLM logs a call's whole body, or ``{}`` if it is configured not to store prompts."""
    messages, body = _decoded(row["messages"]), _decoded(row["request"])
    if isinstance(messages, list) and messages:
        return Request(messages=_checked(messages))
    if row["prompt"]:
        return Request(messages=[{"role": "user", "content": str(row["prompt"])}])
    if not isinstance(body, Mapping) or not (body.get("messages") or body.get("input")):
        return None
    params = {name: value for name, value in body.items() if name not in {"messages", "input"}}
    asked = body.get("messages")
    return Request(messages=_checked(asked) if asked else None, input=body.get("input"), params=params)


def _checked(messages: Any) -> list[Mapping[str, Any]]:
    if not (isinstance(messages, list) and all(isinstance(message, Mapping) for message in messages)):
        raise ValueError(f"messages={str(messages)[:60]}: must be a list of objects with role and content")
    return messages


def _decoded(value: Any) -> Any:
    """Return a cell's value: CSV files and some databases store lists as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"{value[:60]!r} is not JSON") from error
    return value


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    return None if number is None or math.isnan(number) else number


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _time(value: Any) -> float | None:
    """Return a number, a date or an ISO 8601 text as seconds since 1970; a time without a zone is UTC."""
    if value is None or isinstance(value, int | float):
        return _number(value)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _numbered(content: str, seen: Counter[str]) -> str:
    """Number identical rows without an id, so that each counts, and so that reading a file again gives the same ids."""
    seen[content] += 1
    return content if seen[content] == 1 else f"{content} {seen[content]}"


def _started(row: tuple[str, Mapping[str, Any]]) -> float:
    where, found = row
    try:
        return _time(found["start"]) or 0.0
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigurationError(f"{where}: {error}") from error


def _explained(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = f"{'.'.join(map(str, first['loc']))}={str(first['input'])[:60]}: " if first["loc"] else ""
        return where + first["msg"].removeprefix("Value error, ")
    return str(error)
