"""Recorded outcomes: real prompts, answered by real models, read from two Parquet files and validated."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # as above
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above
from numpy.typing import NDArray

from conduit_schemas import ConduitError

__all__ = ["RecordedDataError", "RecordedOutcomes", "read_outcomes"]

Figures = NDArray[np.float64]
Columns = Mapping[str, pa.DataType]


class RecordedDataError(ConduitError):
    """Raised when recorded data is missing, incomplete or out of bounds."""


@dataclass(frozen=True, slots=True)
class RecordedOutcomes:
    """The outcomes of n prompts on each of k models."""

    prompt_ids: tuple[str, ...]
    texts: tuple[str, ...]
    models: tuple[str, ...]
    """In alphabetical order."""
    quality: Figures
    """Shape (n, k), 0..1."""
    cost_usd: Figures
    """Shape (n, k)."""
    latency_s: Figures
    """Shape (n, k); NaN where not measured."""
    input_tokens: Figures
    """Shape (n, k); NaN where unknown."""
    output_tokens: Figures
    """Shape (n, k); NaN where unknown."""
    recorded: int
    """Number of prompts in the folder: n, or more if only some were read."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return only these prompts, in this order."""
        return type(self)(
            prompt_ids=tuple(self.prompt_ids[row] for row in rows),
            texts=tuple(self.texts[row] for row in rows),
            models=self.models,
            recorded=self.recorded,
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
_ROW_FOR = {"prompts.parquet": "prompt", "outcomes.parquet": "prompt and model"}


def read_outcomes(directory: Path, *, max_prompts: int | None = None) -> RecordedOutcomes:
    """Read and validate a folder of recorded outcomes.

    Parameters
    ----------
    directory
        Folder with ``prompts.parquet`` (``prompt_id``, ``text``) and ``outcomes.parquet``, which has one row per prompt
        and model with ``prompt_id``, ``model``, ``quality`` (0..1), ``cost_usd``, ``latency_s``, ``input_tokens`` and
        ``output_tokens``. The last three may be null or missing. Every prompt needs an outcome for every model. Other
        columns are ignored, as are outcomes of prompts that are not listed.
    max_prompts
        Maximum number of prompts. If there are more, a random sample is used, always the same one, in file order. Files
        are read in pieces, so memory grows only with the sample and the identifiers.

    Raises
    ------
    RecordedDataError
        When the data cannot be used; the message names the file, row and column, what is wrong, and what to do.
    """
    prompts_file, outcomes_file = directory / "prompts.parquet", directory / "outcomes.parquet"
    _check_columns(prompts_file, _PROMPT_COLUMNS)
    _check_columns(outcomes_file, _OUTCOME_COLUMNS)
    identifiers = [piece["prompt_id"] for _, piece in _pieces(prompts_file, _only("prompt_id", _PROMPT_COLUMNS))]
    all_ids = pa.concat_tables([pa.table({"prompt_id": column}) for column in identifiers])["prompt_id"]
    _check_unique(prompts_file, all_ids)
    kept = _sample(len(all_ids), max_prompts)
    texts: list[str] = []
    for start, piece in _pieces(prompts_file, _only("text", _PROMPT_COLUMNS)):
        low, high = np.searchsorted(kept, (start, start + len(piece)))
        texts += piece["text"].take(pa.array(kept[low:high] - start)).to_pylist()
    prompt_ids = all_ids.take(pa.array(kept)).combine_chunks()
    models, figures = _pivot(outcomes_file, prompt_ids)
    return RecordedOutcomes(tuple(prompt_ids.to_pylist()), tuple(texts), models, **figures, recorded=len(all_ids))


_PIECE = 1 << 17
"""Number of rows read at once."""


def _only(name: str, columns: Columns) -> Columns:
    return {name: columns[name]}


def _check_columns(path: Path, columns: Columns) -> None:
    with _opened(path) as file:
        needed = [name for name in columns if name not in _MAY_BE_NULL]
        if missing := [name for name in needed if name not in file.schema_arrow.names]:
            raise RecordedDataError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(needed)}")
        if not file.metadata.num_rows:
            raise RecordedDataError(f"{path} has no rows; it needs one for every {_ROW_FOR[path.name]}")


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except FileNotFoundError as error:
        raise RecordedDataError(
            f"{path} does not exist; a data folder holds prompts.parquet and outcomes.parquet"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise RecordedDataError(f"{path} cannot be read as Parquet: {_line(error)}; write it again") from error


def _pieces(path: Path, columns: Columns) -> Iterator[tuple[int, pa.Table]]:
    """Yield pieces of the file, validated and converted, each with the number of its first row."""
    start = 0
    with _opened(path) as file:
        present = set(file.schema_arrow.names)
        for batch in file.iter_batches(_PIECE, columns=[name for name in columns if name in present]):
            read = {name: batch[name] if name in present else pa.nulls(len(batch)) for name in columns}
            piece = pa.table({name: _typed(path, start, read[name], name, columns[name]) for name in columns})
            yield start, piece
            start += len(piece)


def _typed(path: Path, start: int, read: pa.Array, name: str, wanted: pa.DataType) -> pa.Array:
    try:
        column = read.cast(wanted)
        column.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise RecordedDataError(
            f"{path}: column {name} holds {read.type} and cannot be read as {wanted}, in row {start} or after: "
            f"{_line(error)}; write it as {wanted}"
        ) from error
    if name not in _MAY_BE_NULL and column.null_count:
        row = start + pc.index(pc.is_null(column), True).as_py()
        instead = "the row" if path.name == "prompts.parquet" else "the prompt or the model"
        raise RecordedDataError(
            f"{path}: row {row} has no {name}{_more(column.null_count)}; fill it in or drop {instead}"
        )
    if name in _BOUNDS:
        _check_bounds(path, start, column, name)
    return column


def _check_bounds(path: Path, start: int, column: pa.Array, name: str) -> None:
    low, high = _BOUNDS[name]
    values = column.to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False) & ~((values >= low) & (values <= high)))
    if len(bad):
        raise RecordedDataError(
            f"{path}: row {start + bad[0]} has {name} {values[bad[0]]:g}{_more(len(bad))}; it must lie in "
            f"{low:g}..{high:g}"
        )


def _check_unique(path: Path, prompt_ids: pa.ChunkedArray) -> None:
    if len(prompt_ids.unique()) == len(prompt_ids):
        return
    seen: dict[str, int] = {}
    for row, prompt_id in enumerate(prompt_ids.to_pylist()):
        if (first := seen.setdefault(prompt_id, row)) != row:
            raise RecordedDataError(
                f"{path}: row {row} has prompt_id {prompt_id!r}, which row {first} has already; make them unique"
            )


def _sample(count: int, max_rows: int | None) -> NDArray[np.intp]:
    """Return the rows to use, in ascending order."""
    if max_rows is None or count <= max_rows:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, max_rows, replace=False))


def _pivot(path: Path, prompt_ids: pa.StringArray) -> tuple[tuple[str, ...], dict[str, Figures]]:
    """Return the models, and an array of shape (prompts, models) for each figure."""
    numbers: dict[str, int] = {}
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], list[Figures]]] = []
    for _, piece in _pieces(path, _OUTCOME_COLUMNS):
        names = piece["model"].combine_chunks().dictionary_encode()
        number = np.array([numbers.setdefault(name, len(numbers)) for name in names.dictionary.to_pylist()])
        row = pc.fill_null(pc.index_in(piece["prompt_id"], prompt_ids), -1).to_numpy().astype(np.intp)
        wanted = row >= 0
        column = number[names.indices.to_numpy()]
        found.append((row[wanted], column[wanted], [piece[name].to_numpy()[wanted] for name in _BOUNDS]))
    models = tuple(sorted(numbers))
    place = np.argsort(np.argsort(np.array(list(numbers), object)))
    shape = (len(prompt_ids), len(models))
    cell = np.concatenate([row * len(models) + place[column] for row, column, _ in found])
    count = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    for problem, where in (("no outcome", count == 0), ("more than one outcome", count > 1)):
        if where.any():
            prompt, model = np.argwhere(where)[0]
            raise RecordedDataError(
                f"{path}: prompt {prompt_ids[int(prompt)].as_py()!r} has {problem} for model {models[model]!r}"
                f"{_more(int(where.sum()))}; every prompt needs exactly one row per model"
            )
    figures = {name: np.full(shape, math.nan) for name in _BOUNDS}
    for figure, array in enumerate(figures.values()):
        array.flat[cell] = np.concatenate([values[figure] for _, _, values in found])
    return models, figures


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")


def _more(count: int) -> str:
    return f" (and {count - 1} more like it)" if count > 1 else ""
