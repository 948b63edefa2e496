"""A world made of recorded outcomes: real prompts that real models answered, read from Parquet."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # as above
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

from conduit_demo.world import Reply, Table, deployment
from conduit_schemas import ConduitError

__all__ = ["RecordedDataError", "ReplayedWorld"]


class RecordedDataError(ConduitError):
    """Raised when recorded data is missing, incomplete or out of bounds."""


_COLUMNS = {
    "prompts.parquet": {"prompt_id": pa.string(), "text": pa.string()},
    "outcomes.parquet": {
        "prompt_id": pa.string(),
        "model": pa.string(),
        "quality": pa.float64(),
        "cost_usd": pa.float64(),
        "latency_s": pa.float64(),
        "input_tokens": pa.float64(),
        "output_tokens": pa.float64(),
    },
}
_MAY_BE_NULL = {"latency_s", "input_tokens", "output_tokens"}


class ReplayedWorld:
    """Recorded prompts, in random order, and what each model made of them.

    Parameters
    ----------
    directory
        Holds ``prompts.parquet`` (``prompt_id``, ``text``) and ``outcomes.parquet``: one row per prompt and model with
        ``prompt_id``, ``model``, ``quality`` (0..1), ``cost_usd``, ``latency_s``, ``input_tokens`` and
        ``output_tokens``, the last three null where unknown. Every prompt needs an outcome for every model.
        Prompts whose text occurred before are left out.
    requests
        At most so many prompts are used.
    seed
        Decides the order of the prompts, and which are used.

    Raises
    ------
    RecordedDataError
        When the data cannot be used; the message says which file, what is wrong, and what to do.
    """

    def __init__(self, directory: Path, requests: int, seed: int) -> None:
        prompts = _read(directory / "prompts.parquet")
        outcomes = _read(directory / "outcomes.parquet")
        _check_outcomes(directory / "outcomes.parquet", outcomes)
        texts = dict(zip(prompts["prompt_id"].to_pylist(), prompts["text"].to_pylist(), strict=True))
        if len(texts) < len(prompts):
            raise RecordedDataError(f"{directory / 'prompts.parquet'}: a prompt_id occurs twice; make them unique")
        unique = {text: prompt_id for prompt_id, text in reversed(texts.items())}
        ids = sorted(unique.values())
        np.random.default_rng(seed).shuffle(ids)
        ids = ids[:requests]
        self.texts: Sequence[str] = [texts[prompt_id] for prompt_id in ids]
        self.models: tuple[str, ...] = tuple(sorted(set(outcomes["model"].to_pylist())))
        self._values = _pivot(directory / "outcomes.parquet", outcomes, ids, self.models)

    def reply(self, index: int, model: int, attempt: int) -> Reply:
        """Return what a model answered: a text that only :meth:`grade` understands, and the recorded figures."""
        del attempt  # recorded calls do not fail
        row = {name: float(values[index, model]) for name, values in self._values.items()}
        latency_s = row["latency_s"]
        return Reply(
            status=200,
            text=f"recorded answer of {self.models[model]}",
            input_tokens=_count(row["input_tokens"]),
            output_tokens=_count(row["output_tokens"]),
            latency_s=0.0 if math.isnan(latency_s) else latency_s,
            cost_usd=row["cost_usd"],
        )

    def grade(self, index: int, text: str) -> float:
        """Return the quality that was recorded for this answer."""
        model = self.models.index(text.removeprefix("recorded answer of "))
        return float(self._values["quality"][index, model])

    @cached_property
    def table(self) -> Table:
        """The recorded outcomes."""
        values = self._values
        return Table(
            models=self.models,
            quality=values["quality"],
            cost_usd=values["cost_usd"],
            latency_s=values["latency_s"],
            failures=np.zeros(values["quality"].shape, np.int64),
            lost_s=np.zeros(values["quality"].shape),
        )

    def deployments(self, url: str) -> list[dict[str, Any]]:
        """Return the Router's model list. The server itself sends the recorded bill, as a LiteLLM proxy does."""
        return [deployment(model, url, column) for column, model in enumerate(self.models)]


def _read(path: Path) -> pa.Table:
    columns = _COLUMNS[path.name]
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise RecordedDataError(
            f"{path} does not exist; --data needs a folder with {' and '.join(_COLUMNS)}"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise RecordedDataError(f"{path} cannot be read as Parquet: {error}") from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise RecordedDataError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(columns)}")
    try:
        table = table.select(list(columns)).cast(pa.schema(list(columns.items())))
    except (pa.ArrowException, ValueError) as error:
        raise RecordedDataError(f"{path} has a column of the wrong type: {error}") from error
    for name in columns:
        if name not in _MAY_BE_NULL and (nulls := table[name].null_count):
            raise RecordedDataError(f"{path}: {nulls} rows have no {name}; fill them in or drop them")
    if not len(table):
        raise RecordedDataError(f"{path} has no rows")
    return table


def _check_outcomes(path: Path, outcomes: pa.Table) -> None:
    bounds = {"quality": (0.0, 1.0), "cost_usd": (0.0, 1e6), "latency_s": (0.0, 1e6)}
    bounds |= dict.fromkeys(("input_tokens", "output_tokens"), (0.0, 1e9))
    for name, (low, high) in bounds.items():
        column = pc.drop_null(outcomes[name])
        values = column.to_numpy()
        if bad := values[~((values >= low) & (values <= high))].tolist():
            raise RecordedDataError(f"{path}: {name} is {bad[0]} in {len(bad)} rows; it must lie in {low:g}..{high:g}")


def _pivot(path: Path, outcomes: pa.Table, ids: list[str], models: tuple[str, ...]) -> dict[str, Any]:
    """Return, per figure, an array of shape (prompts, models)."""
    rows = {prompt_id: row for row, prompt_id in enumerate(ids)}
    columns = {model: column for column, model in enumerate(models)}
    row = np.array([rows.get(prompt_id, -1) for prompt_id in outcomes["prompt_id"].to_pylist()])
    column = np.array([columns[model] for model in outcomes["model"].to_pylist()])
    wanted = row >= 0
    count = np.zeros((len(ids), len(models)), np.int64)
    np.add.at(count, (row[wanted], column[wanted]), 1)
    for problem, where in (("no outcome", count == 0), ("more than one outcome", count > 1)):
        if where.any():
            first, model = np.argwhere(where)[0]
            raise RecordedDataError(
                f"{path}: prompt {ids[first]!r} has {problem} for model {models[model]!r} (and {int(where.sum()) - 1} "
                "more like it); every prompt needs exactly one row per model"
            )
    values = {}
    for name in ("quality", "cost_usd", "latency_s", "input_tokens", "output_tokens"):
        array = np.full(count.shape, math.nan)
        array[row[wanted], column[wanted]] = outcomes[name].to_numpy()[wanted]
        values[name] = array
    return values


def _count(tokens: float) -> int:
    """Return a token count; unknown ones are reported as 0, since the recorded bill does not depend on them."""
    return 0 if math.isnan(tokens) else round(tokens)
