"""A world of recorded outcomes: real prompts, answered by real models, read from Parquet files."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from conduit_demo.outcomes import RecordedDataError, read_outcomes
from conduit_demo.world import Reply, Table, deployment

__all__ = ["RecordedDataError", "ReplayedWorld"]


class ReplayedWorld:
    """Recorded prompts, in random order, with each model's outcome.

    Parameters
    ----------
    directory
        Folder of recorded outcomes; see :func:`conduit_demo.outcomes.read_outcomes`. Of several prompts with the same
        text, only one is used.
    requests
        Maximum number of prompts.
    seed
        Determines which prompts are used and their order.

    Raises
    ------
    RecordedDataError
        When the data cannot be used; the message names the file, what is wrong, and what to do.
    """

    def __init__(self, directory: Path, requests: int, seed: int) -> None:
        outcomes = read_outcomes(directory)
        first = {text: row for row, text in reversed(list(enumerate(outcomes.texts)))}
        rows = np.array(sorted(first.values(), key=outcomes.prompt_ids.__getitem__))
        np.random.default_rng(seed).shuffle(rows)
        self._outcomes = outcomes.take(rows[:requests])
        self.texts: Sequence[str] = self._outcomes.texts
        self.models: tuple[str, ...] = self._outcomes.models

    def reply(self, index: int, model: int, attempt: int) -> Reply:
        """Return a model's recorded reply, with a placeholder text that :meth:`grade` understands."""
        del attempt  # recorded calls do not fail
        recorded = self._outcomes
        latency_s = float(recorded.latency_s[index, model])
        return Reply(
            status=200,
            text=f"recorded answer of {self.models[model]}",
            input_tokens=_count(recorded.input_tokens[index, model]),
            output_tokens=_count(recorded.output_tokens[index, model]),
            latency_s=0.0 if math.isnan(latency_s) else latency_s,
            cost_usd=float(recorded.cost_usd[index, model]),
        )

    def grade(self, index: int, text: str) -> float:
        """Return the recorded quality of this answer."""
        model = self.models.index(text.removeprefix("recorded answer of "))
        return float(self._outcomes.quality[index, model])

    @cached_property
    def table(self) -> Table:
        """The recorded outcomes."""
        recorded = self._outcomes
        return Table(
            models=self.models,
            quality=recorded.quality,
            cost_usd=recorded.cost_usd,
            latency_s=recorded.latency_s,
            failures=np.zeros(recorded.quality.shape, np.int64),
            lost_s=np.zeros(recorded.quality.shape),
        )

    def deployments(self, url: str) -> list[dict[str, Any]]:
        """Return the Router's model list; the server itself sends the recorded costs, as a LiteLLM proxy does."""
        return [deployment(model, url, column) for column, model in enumerate(self.models)]


def _count(tokens: float) -> int:
    """Return a token count; an unknown count is reported as 0, because the recorded cost does not depend on it."""
    return 0 if math.isnan(tokens) else round(tokens)
