"""The contract for other languages: JSON Schemas, an AsyncAPI document, and a page that explains all reason codes.

All are generated from the models. ``python -m conduit_schemas.documents [FOLDER]`` writes them (default:
``docs/contract``).
"""

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from conduit_schemas.codec import MAX_EVENT_BYTES, MAX_SNAPSHOT_BYTES
from conduit_schemas.events import DeadLetter, Event
from conduit_schemas.fields import SCHEMA_VERSION
from conduit_schemas.reasons import VOCABULARY, Code
from conduit_schemas.snapshot import Snapshot
from conduit_schemas.topics import Topics

__all__ = ["documents", "main"]

_EVENTS: Mapping[str, Any] = {model.model_fields["kind"].default: model for model in get_args(get_args(Event)[0])}
_MODELS: Mapping[str, Any] = {"event": Event, **_EVENTS, "snapshot": Snapshot, "dead_letter": DeadLetter}

_CHANNELS = (
    (
        "events",
        "All events, keyed by policy (UTF-8). The events of one policy are in one partition, in order.",
        MAX_EVENT_BYTES,
        tuple(_EVENTS),
    ),
    ("snapshots", "The newest snapshot of each policy, keyed by policy; compacted.", MAX_SNAPSHOT_BYTES, ("snapshot",)),
    (
        "dead_letters",
        "Records that could not be used, keyed by topic, partition and offset; compacted.",
        MAX_EVENT_BYTES,
        ("dead_letter",),
    ),
)


def documents() -> dict[str, str]:
    """Return the text of every document, by file name.

    Examples
    --------
    >>> sorted(documents())[:2]
    ['asyncapi.json', 'dead_letter.schema.json']
    """
    texts = {}
    for name, model in _MODELS.items():
        schema = TypeAdapter(model).json_schema()
        texts[f"{name}.schema.json"] = _text(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"conduit-{name}-1", **schema}
        )
    texts["asyncapi.json"] = _text(_asyncapi())
    texts["reasons.md"] = "\n".join([_REASONS, *map(_section, VOCABULARY)])
    return texts


def _asyncapi() -> dict[str, Any]:
    topics = Topics()
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel, description, limit, kinds in _CHANNELS:
        channels[channel] = {
            "address": getattr(topics, channel),
            "description": f"{description} A record is UTF-8 JSON of at most {limit:,} bytes.",
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in kinds},
        }
        operations[f"read_{channel}"] = {"action": "receive", "channel": {"$ref": f"#/channels/{channel}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Conduit",
            "version": SCHEMA_VERSION,
            "description": "The records that plugins and learners exchange. Topic names have a configurable prefix.",
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                kind: {
                    "name": kind,
                    "contentType": "application/json",
                    "payload": {"$ref": f"./{kind}.schema.json"},
                }
                for *_, kinds in _CHANNELS
                for kind in kinds
            }
        },
    }


_REASONS = """# Reasons and flags

Events, counters, metrics and the JSON of commands give a reason as a code. This page says what each code means, in the
words that Conduit uses everywhere. A log may also hold codes of a newer version. They are not listed here, and are
shown unchanged.
"""


def _section(codes: type[Code]) -> str:
    has_advice = any(code.advice for code in codes)
    rows = [("code", "what it means", *(("what to do",) if has_advice else ()))]
    rows += [("---",) * len(rows[0])]
    rows += [(f"`{code}`", code.about, *((code.advice or "nothing",) if has_advice else ())) for code in codes]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"## {str(inspect.getdoc(codes)).rstrip('.')}\n\n{table}\n"


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    """Write every document into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/contract"))
