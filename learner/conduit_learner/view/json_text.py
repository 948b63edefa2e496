"""Convert what a report holds into JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from pydantic import BaseModel

__all__ = ["json_text"]


def json_text(fields: Mapping[str, Any]) -> str:
    """Return one JSON object. Infinities and NaN, which JSON cannot represent, become null.

    Examples
    --------
    >>> json_text({"mean": 0.5, "high": math.inf})
    '{"mean": 0.5, "high": null}'
    """
    return json.dumps(_plain(fields), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    return value
