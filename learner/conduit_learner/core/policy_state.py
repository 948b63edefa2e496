"""The state of one policy as bytes: a part of a checkpoint. It holds only numbers and names.

For an open decision, it holds the offset and flags. The rest is in the log.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from conduit_learner.core.arm import Arm, fresh_watch
from conduit_learner.core.join import ClosedDecisions, OpenDecision, sender
from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.models.drift import Watch
from conduit_learner.models.regression import AdditiveRegression
from conduit_schemas import Alarm, LearningSettings

__all__ = ["dump_policy", "load_policy"]

_COUNTERS = ("offset", "ticks", "selections", "outcomes", "feedbacks", "censored", "duplicates", "alarms")
_ARM_FIELDS = ("model", "seen", "selections", "outcomes", "errors", "feedbacks")


def dump_policy(policy: PolicyLearner, now_ms: int) -> bytes:
    """Return a policy's whole state at a stream time."""
    policy.close(now_ms)
    decisions = list(policy.open)
    fields = {
        "settings": policy.settings.model_dump(mode="json"),
        **{counter: getattr(policy, counter) for counter in _COUNTERS},
        "routing": policy.routing.dump(),
        "arms": [
            {
                "id": name,
                **{field: getattr(arm, field) for field in _ARM_FIELDS},
                "signals": {
                    signal: [model.dimension, _pack(model.to_array(), "<f8")] for signal, model in arm.models.items()
                },
                "watch": _pack(arm.watch.to_array(), "<f8"),
                "alarms": {signal: alarm.model_dump() for signal, alarm in arm.alarms.items()},
            }
            for name, arm in sorted(policy.arms.items())
        ],
        "open": {
            "offset": _pack([decision.offset for decision in decisions], "<i8"),
            "opened_ms": _pack([decision.opened_ms for decision in decisions], "<i8"),
            "outcome": _pack([decision.has_outcome + 2 * decision.is_rated for decision in decisions], "<i8"),
            "feedbacks": {index: decision.feedbacks for index, decision in enumerate(decisions) if decision.feedbacks},
            **_dump_ids(policy.open.decisions),
        },
        "closed": list(policy.open.closed.numbers.items()),
    }
    return json.dumps(fields).encode()


def load_policy(name: str, state: bytes) -> PolicyLearner:
    """Return the policy whose state :func:`dump_policy` returned. Its open decisions lack what only the log holds.

    Raises
    ------
    ValueError, KeyError, TypeError
        When the state is damaged.
    """
    fields = json.loads(state)
    policy = PolicyLearner(name, LearningSettings.model_validate(fields["settings"]))
    for counter in _COUNTERS:
        setattr(policy, counter, int(fields[counter]))
    policy.routing.load(fields["routing"])
    for arm in fields["arms"]:
        models = {
            signal: AdditiveRegression.from_array(dimension, _unpack(numbers, "<f8"), fixed_point=True)
            for signal, (dimension, numbers) in arm["signals"].items()
        }
        policy.arms[arm["id"]] = Arm(
            models,
            _load_watch(models, arm["watch"]),
            {signal: Alarm.model_validate(alarm) for signal, alarm in arm["alarms"].items()},
            **{field: arm[field] for field in _ARM_FIELDS},
        )
    ids = _load_ids(fields["open"])
    columns = (_unpack(fields["open"][column], "<i8").tolist() for column in ("offset", "opened_ms", "outcome"))
    for index, (offset, opened_ms, flags) in enumerate(zip(*columns, strict=True)):
        feedbacks = fields["open"]["feedbacks"].get(str(index), ())
        policy.open.add(
            ids.get(index, str(index)),
            OpenDecision(
                offset,
                opened_ms,
                has_outcome=bool(flags & 1),
                is_rated=bool(flags & 2),
                feedbacks=tuple((s, k) for s, k in feedbacks),
            ),
        )
    policy.open.closed = ClosedDecisions((who, number) for who, number in fields["closed"])
    return policy


def _dump_ids(ids: Iterable[str]) -> dict[str, Any]:
    """Return the senders and numbers of open decisions' ids, so that they can be closed before the log is read."""
    senders: dict[str, int] = {}
    columns: dict[str, list[int]] = {"sender": [], "number": []}
    for decision_id in ids:
        name, number = sender(decision_id) or ("", 0)
        columns["sender"].append(senders.setdefault(name, len(senders)))
        columns["number"].append(number)
    return {"senders": list(senders), **{name: _pack(column, "<i8") for name, column in columns.items()}}


def _load_ids(fields: Mapping[str, Any]) -> dict[int, str]:
    """Return the ids that :func:`_dump_ids` stored, by index. Ids of another form are left out."""
    names = fields["senders"]
    columns = (_unpack(fields[name], "<i8").tolist() for name in ("sender", "number"))
    return {
        index: f"{names[who]}{number:08x}"
        for index, (who, number) in enumerate(zip(*columns, strict=True))
        if names[who]
    }


def _load_watch(models: Mapping[str, AdditiveRegression], state: str) -> Watch:
    watch = fresh_watch(models)
    watch.restore(_unpack(state, "<f8"))
    return watch


def _pack(numbers: Any, kind: str) -> str:
    return base64.b64encode(np.asarray(numbers, dtype=kind).tobytes()).decode()


def _unpack(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype=kind)
