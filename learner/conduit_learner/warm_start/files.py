"""Read the rows of request logs in the usual file formats."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from conduit_schemas import ConfigurationError

__all__ = ["read_rows"]


def read_rows(file: Path) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a file; the file name's extension determines the format."""
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise ConfigurationError(f"{file}: the file name must end in one of {', '.join(readers)}")
    try:
        yield from reader(file)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error


def _jsonl(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _object(json.loads(line), f"{file}, line {number}")


def _json(file: Path) -> Iterator[Mapping[str, Any]]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(content, Mapping):
        content = content.get("data", content)
    if not isinstance(content, list):
        raise ConfigurationError(f"{file} must hold a list of requests")
    for number, row in enumerate(content, 1):
        yield _object(row, f"{file}, entry {number}")


def _csv(file: Path) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(1 << 30)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        yield from csv.DictReader(lines)


def _parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415  # no types; an optional dependency, slow to load
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415  # as above

    try:
        for batch in pq.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ConfigurationError(f"{file} cannot be read as Parquet: {error}") from error


def _object(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise ConfigurationError(f"{where} is not a JSON object")
    return row
