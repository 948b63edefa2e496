"""Recorded outcomes: real prompts that real models answered, read from two Parquet files and checked."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # as above
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above
from numpy.typing import NDArray

from conduit_schemas import ConduitError

__all__ = ["RecordedDataError", "RecordedOutcomes", "read_outcomes"]

Figures = NDArray[np.float64]


class RecordedDataError(ConduitError):
    """Raised when recorded data is missing, incomplete or out of bounds."""


@dataclass(frozen=True, slots=True)
class RecordedOutcomes:
    """What each of k models made of each of n prompts."""

    prompt_ids: tuple[str, ...]
    texts: tuple[str, ...]
    models: tuple[str, ...]
    """In alphabetical order."""
    quality: Figures
    """Shape (n, k), 0..1."""
    cost_usd: Figures
    """Shape (n, k)."""
    latency_s: Figures
    """Shape (n, k); NaN where it was not measured."""
    input_tokens: Figures
    """Shape (n, k); NaN where unknown."""
    output_tokens: Figures
    """Shape (n, k); NaN where unknown."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return these prompts only, in this order."""
        return type(self)(
            prompt_ids=tuple(self.prompt_ids[row] for row in rows),
            texts=tuple(self.texts[row] for row in rows),
            models=self.models,
            **{name: getattr(self, name)[rows] for name in _BOUNDS},
        )


_PROMPT_COLUMNS = {"prompt_id": pa.string(), "text": pa.string()}
_BOUNDS = {
    "quality": (0.0, 1.0),
    "cost_usd": (0.0, 1e6),
    "latency_s": (0.0, 1e6),
    "input_tokens": (0.0, 1e9),
    "output_tokens": (0.0, 1e9),
}
_OUTCOME_COLUMNS = {"prompt_id": pa.string(), "model": pa.string(), **dict.fromkeys(_BOUNDS, pa.float64())}
_MAY_BE_NULL = {"latency_s", "input_tokens", "output_tokens"}


def read_outcomes(directory: Path) -> RecordedOutcomes:
    """Read and check a folder of recorded outcomes.

    Parameters
    ----------
    directory
        Holds ``prompts.parquet`` (``prompt_id``, ``text``) and ``outcomes.parquet``: one row per prompt and model with
        ``prompt_id``, ``model``, ``quality`` (0..1), ``cost_usd``, ``latency_s``, ``input_tokens`` and
        ``output_tokens``, the last three null where unknown. Every prompt needs an outcome for every model. Other
        columns are ignored, and so are outcomes of prompts that are not listed.

    Raises
    ------
    RecordedDataError
        When the data cannot be used; the message says which file, row and column, what is wrong, and what to do.
    """
    prompts_file, outcomes_file = directory / "prompts.parquet", directory / "outcomes.parquet"
    prompts = _read(prompts_file, _PROMPT_COLUMNS)
    outcomes = _read(outcomes_file, _OUTCOME_COLUMNS)
    prompt_ids = tuple(prompts["prompt_id"].to_pylist())
    if len(set(prompt_ids)) < len(prompt_ids):
        first = {prompt_id: row for row, prompt_id in reversed(list(enumerate(prompt_ids)))}
        row = next(row for row, prompt_id in enumerate(prompt_ids) if first[prompt_id] != row)
        raise RecordedDataError(
            f"{prompts_file}: row {row} has prompt_id {prompt_ids[row]!r}, which row {first[prompt_ids[row]]} has "
            "already; make them unique"
        )
    for name, (low, high) in _BOUNDS.items():
        _check_bounds(outcomes_file, outcomes[name], name, low, high)
    models = tuple(sorted(pc.unique(outcomes["model"]).to_pylist()))
    return RecordedOutcomes(
        prompt_ids=prompt_ids,
        texts=tuple(prompts["text"].to_pylist()),
        models=models,
        **_pivot(outcomes_file, outcomes, prompts["prompt_id"], models),
    )


def _read(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise RecordedDataError(
            f"{path} does not exist; a data folder holds prompts.parquet and outcomes.parquet"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise RecordedDataError(f"{path} cannot be read as Parquet: {error}") from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise RecordedDataError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(columns)}")
    read = {}
    for name, wanted in columns.items():
        try:
            read[name] = table[name].cast(wanted)
        except (pa.ArrowException, ValueError) as error:
            raise RecordedDataError(f"{path}: column {name} cannot be read as {wanted}: {error}") from error
        if name not in _MAY_BE_NULL and (nulls := read[name].null_count):
            row = pc.index(pc.is_null(read[name]), True).as_py()
            raise RecordedDataError(f"{path}: row {row} has no {name}{_more(nulls)}; fill it in or drop the row")
    if not len(table):
        raise RecordedDataError(f"{path} has no rows")
    return pa.table(read)


def _check_bounds(path: Path, column: pa.ChunkedArray, name: str, low: float, high: float) -> None:
    values = column.to_numpy()
    known = column.is_valid().to_numpy()
    bad = np.flatnonzero(known & ~((values >= low) & (values <= high)))
    if len(bad):
        raise RecordedDataError(
            f"{path}: row {bad[0]} has {name} {values[bad[0]]:g}{_more(len(bad))}; it must lie in {low:g}..{high:g}"
        )


def _pivot(path: Path, outcomes: pa.Table, prompt_ids: pa.ChunkedArray, models: tuple[str, ...]) -> dict[str, Any]:
    """Return, per figure, an array of shape (prompts, models)."""
    row = pc.fill_null(pc.index_in(outcomes["prompt_id"], prompt_ids.combine_chunks()), -1).to_numpy().astype(np.intp)
    column = pc.index_in(outcomes["model"], pa.array(models)).to_numpy().astype(np.intp)
    wanted = row >= 0
    cell = row[wanted] * len(models) + column[wanted]
    shape = (len(prompt_ids), len(models))
    count = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    for problem, where in (("no outcome", count == 0), ("more than one outcome", count > 1)):
        if where.any():
            prompt, model = np.argwhere(where)[0]
            raise RecordedDataError(
                f"{path}: prompt {prompt_ids[int(prompt)].as_py()!r} has {problem} for model {models[model]!r}"
                f"{_more(int(where.sum()))}; every prompt needs exactly one row per model"
            )
    values = {}
    for name in _BOUNDS:
        array = np.full(shape, math.nan)
        array.flat[cell] = outcomes[name].to_numpy()[wanted]
        values[name] = array
    return values


def _more(count: int) -> str:
    return f" (and {count - 1} more like it)" if count > 1 else ""
