"""Writes the documentation's settings page from the definitions in :mod:`conduit_litellm.settings`.

``python -m conduit_litellm.settings_page [FILE]`` writes it (default: ``docs/settings.md``).
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from conduit_litellm.settings import SETTINGS, StrategySettings

__all__ = ["settings_page"]


def settings_page() -> str:
    """Return the settings page as Markdown.

    Examples
    --------
    >>> print(settings_page().partition("|")[0].splitlines()[0])
    # Settings
    """
    schema = TypeAdapter(StrategySettings).json_schema(schema_generator=_Forms)
    rows = [
        f"| `{name}` | {_form(field)} | {_default(SETTINGS[name])} | {' '.join(field['description'].split())} |"
        for name, field in schema["properties"].items()
    ]
    return "\n".join([_PAGE, "| setting | takes | default | meaning |", "|---|---|---|---|", *rows, ""])


class _Forms(GenerateJsonSchema):
    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {"type": "Python object"}  # such as a featurizer, which no file can hold


_PAGE = """# Settings

A setting has the same name and takes the same forms wherever you give it: as an argument of `ConduitRoutingStrategy`
or `create_service`, as a key in the `conduit:` section of a [proxy's](proxy.md) configuration, or as an environment
variable of a proxy, `CONDUIT_` followed by the name in capitals, such as `CONDUIT_WINDOW_SIZE=500`. In a variable,
separate the items of a list with commas, and write mappings as JSON. Every process, learners included, reads
`CONDUIT_LOG`, `CONDUIT_BOOTSTRAP_SERVERS`, `CONDUIT_TOPIC_PREFIX`, `CONDUIT_HOME` (for `log_path`) and
`CONDUIT_KAFKA_<OPTION>`.

A name that does not exist, or a value out of bounds, is refused at once. The message says where the setting was given,
what is wrong with it, and which names exist.

<!-- Written by make generate from conduit_litellm.settings. -->
"""

_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "array": "list",
    "null": "",
}


def _form(schema: Mapping[str, Any]) -> str:
    """Describe the values that a setting takes."""
    kinds = [_kind(kind) for kind in schema.get("anyOf", [schema])]
    words = " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    examples = ", ".join(f"`{json.dumps(example)}`" for example in schema.get("examples", ()))
    return f"{words}: {examples}" if examples else words


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "object"))
    words = _WORDS.get(kind, kind)
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if above is not None:
        words += f" above {above:,.0f}"
    if low is not None or (high is not None and above is None):
        words += f" from {low or 0:,.0f}"
    if high is not None:
        words += f" to {high:,.0f}"
    return words


def _default(value: object) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/settings.md").write_text(settings_page(), encoding="utf-8")
