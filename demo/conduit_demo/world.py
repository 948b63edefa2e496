"""The demo's world: requests, models, and the outcome of every request on every model.

A seed determines all outcomes in advance, so that every policy can be evaluated on the same requests: the
:class:`Table` holds the outcome of each request on each model, although a run sees only one of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from statistics import NormalDist
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from conduit_demo.models import MODELS, RATE_LIMIT_RATE, SERVER_ERROR_RATE, Model, list_price
from conduit_demo.tasks import TASKS, Prompt, answer, compose, grade

__all__ = ["GROUP", "MAX_ATTEMPTS", "SYSTEM_PROMPT", "Reply", "SimulatedWorld", "Table", "World", "deployment"]

GROUP = "assistant"
"""The Router's model group that holds all models."""

MAX_ATTEMPTS = 3
"""One call and two retries, LiteLLM's default. A request without an answer after that has failed."""

SYSTEM_PROMPT = "You are the assistant of a small company. Answer the user's request."

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """The outcome of each of n requests on each of k models."""

    models: tuple[str, ...]
    quality: Array
    """Shape (n, k), 0..1: quality of the answer, if there is one."""
    cost_usd: Array
    """Shape (n, k): cost of the answer; a failed call costs nothing."""
    latency_s: Array
    """Shape (n, k), real seconds: latency of the call that returns the answer; NaN where it was not measured."""
    failures: NDArray[np.int64]
    """Shape (n, k): calls that fail before one succeeds; with `MAX_ATTEMPTS` failures there is no answer."""
    lost_s: Array
    """Shape (n, k), real seconds: time spent on those failures."""

    def __len__(self) -> int:
        return len(self.quality)


class Reply(NamedTuple):
    """What a model's server sends back."""

    status: int
    """HTTP status: 200, 429 or 500."""
    text: str
    input_tokens: int
    output_tokens: int
    latency_s: float
    """Real seconds until the answer is complete."""
    cost_usd: float | None = None
    """The cost, if it was recorded; otherwise LiteLLM applies its list price."""


class World(Protocol):
    """The interface that the server and a run use."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models' names, in the order of the table's columns."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """The users' messages, in the order of the table's rows; no two are equal."""
        ...

    @property
    def table(self) -> Table:
        """The outcome of every request on every model."""
        ...

    def reply(self, index: int, model: int, attempt: int) -> Reply:
        """Return a model's reply when it gets a request for the first time (0), the second time (1), ..."""
        ...

    def grade(self, index: int, text: str) -> float:
        """Return the quality, 0..1, of an answer to a request, as the application itself checks it."""
        ...

    def deployments(self, url: str) -> list[dict[str, Any]]:
        """Return the Router's model list, with the models served below ``url``."""
        ...


def deployment(name: str, url: str, column: int, **params: float) -> dict[str, Any]:
    """Return one entry of a Router's model list; the server identifies a model by its column.

    LiteLLM's Router retries failed calls, possibly on another model, so the client below it must not retry.
    """
    address = {"api_base": f"{url}/{column}/v1", "api_key": "none", "max_retries": 0}
    return {
        "model_name": GROUP,
        "litellm_params": {"model": f"openai/{name}", **address, **params},
        "model_info": {"id": name},
    }


class SimulatedWorld:
    """The six models of :mod:`conduit_demo.models` on requests of six kinds, in equal shares.

    A model gets a part of an answer right when its ability, less the request's difficulty, less chance, is
    positive: the normal ogive of item response theory (Lord 1952), scaled so that the mean over all
    difficulties is the published score. So hard requests are hard for every model.

    Parameters
    ----------
    requests
        Number of requests.
    seed
        Determines everything.

    Examples
    --------
    >>> world = SimulatedWorld(requests=6, seed=1)
    >>> text = world.reply(0, 1, 2).text
    >>> world.grade(0, text) == float(world.table.quality[0, 1])
    True
    """

    def __init__(self, requests: int, seed: int) -> None:
        self.models = tuple(model.name for model in MODELS)
        self.prompts, difficulties = _prompts(requests, seed)
        self.texts = [prompt.text for prompt in self.prompts]
        self._replies = [
            [_replies(Random(f"{seed}/{row}/{model.name}"), prompt, difficulty, model) for model in MODELS]
            for row, (prompt, difficulty) in enumerate(zip(self.prompts, difficulties, strict=True))
        ]

    def reply(self, index: int, model: int, attempt: int) -> Reply:
        """Return a model's reply; after its first answer it always gives the same answer."""
        replies = self._replies[index][model]
        return replies[min(attempt, len(replies) - 1)]

    def grade(self, index: int, text: str) -> float:
        """Return the quality of an answer to a request."""
        return grade(self.prompts[index], text)

    @cached_property
    def table(self) -> Table:
        """The outcome of every request on every model, at published prices."""
        answers = [[replies[-1] for replies in row] for row in self._replies]
        tokens = np.array([[(reply.input_tokens, reply.output_tokens) for reply in row] for row in answers])
        price = np.array([list_price(model) for model in MODELS])
        return Table(
            models=self.models,
            quality=np.array([[self.grade(index, reply.text) for reply in row] for index, row in enumerate(answers)]),
            cost_usd=(tokens * price).sum(axis=2),
            latency_s=np.array([[reply.latency_s for reply in row] for row in answers]),
            failures=np.array([[len(replies) - 1 for replies in row] for row in self._replies]),
            lost_s=np.array([[sum(r.latency_s for r in replies[:-1]) for replies in row] for row in self._replies]),
        )

    def deployments(self, url: str) -> list[dict[str, Any]]:
        """Return the Router's model list. All entries use the OpenAI protocol, so each states its own price."""
        entries = []
        for column, model in enumerate(MODELS):
            for_input, for_output = list_price(model)
            price = {"input_cost_per_token": for_input, "output_cost_per_token": for_output}
            entries.append(deployment(model.name, url, column, **price))
        return entries


def _prompts(requests: int, seed: int) -> tuple[list[Prompt], list[float]]:
    prompts: list[Prompt] = []
    difficulties = []
    known: set[str] = set()
    random = Random(f"{seed}/prompts")
    while len(prompts) < requests:
        difficulty = random.gauss(0.0, 1.0)
        prompt = compose(random, random.choice(TASKS), difficulty)
        if prompt.text not in known:
            known.add(prompt.text)
            prompts.append(prompt)
            difficulties.append(difficulty)
    return prompts, difficulties


def _replies(random: Random, prompt: Prompt, difficulty: float, model: Model) -> list[Reply]:
    """Return the failed replies, if any, followed by the answer."""
    ability = math.sqrt(2.0) * NormalDist().inv_cdf(model.ability[prompt.task])
    correct = [ability - difficulty - random.gauss(0.0, 1.0) > 0.0 for _ in prompt.right]
    tokens = _LENGTHS[prompt.task] * len(prompt.right) * model.summary_words / _MEAN_WORDS
    output_tokens = max(1, round(tokens * math.exp(random.gauss(0.0, 0.25))))
    input_tokens = math.ceil((len(SYSTEM_PROMPT) + len(prompt.text)) / _CHARACTERS_PER_TOKEN)
    speed = model.tokens_per_s * math.exp(random.gauss(0.0, 0.2))
    replies: list[Reply] = []
    while len(replies) < MAX_ATTEMPTS and (chance := random.random()) < RATE_LIMIT_RATE + SERVER_ERROR_RATE:
        status, text = (429, "rate limit reached") if chance < RATE_LIMIT_RATE else (500, "internal error")
        replies.append(Reply(status, text, 0, 0, _first_token(random, model)))
    latency_s = _first_token(random, model) + output_tokens / speed
    return [*replies, Reply(200, answer(prompt, correct), input_tokens, output_tokens, latency_s)]


def _first_token(random: Random, model: Model) -> float:
    return model.first_token_s * math.exp(random.gauss(0.0, 0.35))


_LENGTHS = {"maths": 160.0, "reasoning": 320.0, "code": 180.0, "extraction": 14.0, "translation": 16.0, "summary": 25.0}
"""Typical output tokens per part of an answer, including intermediate steps: an assumption, not a published figure. How
much more or less than that a model writes is measured by the length of its summaries."""
_MEAN_WORDS = sum(model.summary_words for model in MODELS) / len(MODELS)
_CHARACTERS_PER_TOKEN = 4.0
