"""The world the demo runs in: requests, models, and what would come of every request on every model.

Whatever happens is decided beforehand from a seed, so that any policy can be judged on the same requests: the
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

__all__ = ["GROUP", "SYSTEM_PROMPT", "Reply", "SimulatedWorld", "Table", "World", "deployment"]

GROUP = "assistant"
"""The Router's model group that holds all models."""

SYSTEM_PROMPT = "You are the assistant of a small company. Answer the user's request."

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """What each of n requests would bring on each of k models."""

    models: tuple[str, ...]
    quality: Array
    """Shape (n, k), 0..1; 0 where the call fails."""
    cost_usd: Array
    """Shape (n, k); 0 where the call fails."""
    latency_s: Array
    """Shape (n, k), real seconds; NaN where it was not measured."""
    failed: NDArray[np.bool_]
    """Shape (n, k)."""

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
    """The bill, where it is known beforehand; otherwise LiteLLM applies its list price."""


class World(Protocol):
    """What the server and the run need to know."""

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

    def reply(self, index: int, model: int) -> Reply:
        """Return what a model answers to a request."""
        ...

    def grade(self, index: int, text: str) -> float:
        """Return the quality, 0..1, of an answer to a request: the application's own check."""
        ...

    def deployments(self, url: str) -> list[dict[str, Any]]:
        """Return the Router's model list, with the models served below ``url``."""
        ...


def deployment(name: str, url: str, column: int, model: str, **model_info: str) -> dict[str, Any]:
    """Return one entry of a Router's model list; the server tells models apart by their column."""
    return {
        "model_name": GROUP,
        "litellm_params": {"model": model, "api_base": f"{url}/{column}/v1", "api_key": "none"},
        "model_info": {"id": name, **model_info},
    }


class SimulatedWorld:
    """The six models of :mod:`conduit_demo.models` on requests of six kinds, in equal shares.

    A model gets a part of an answer right when its ability, less the request's difficulty, less chance, is
    positive: the normal ogive of item response theory (Lord 1952), scaled so that the mean over all
    difficulties is the published score. So hard requests are hard for every model.

    Parameters
    ----------
    requests
        How many requests.
    seed
        Decides everything.

    Examples
    --------
    >>> world = SimulatedWorld(requests=6, seed=1)
    >>> text = world.reply(0, 1).text
    >>> world.grade(0, text) == world.table.quality[0, 1]
    True
    """

    def __init__(self, requests: int, seed: int) -> None:
        self.models = tuple(model.name for model in MODELS)
        self._seed = seed
        self.prompts, difficulties = _prompts(requests, seed)
        self.texts = [prompt.text for prompt in self.prompts]
        self._replies = [
            [_reply(Random(f"{seed}/{row}/{model.name}"), prompt, difficulty, model) for model in MODELS]
            for row, (prompt, difficulty) in enumerate(zip(self.prompts, difficulties, strict=True))
        ]

    def reply(self, index: int, model: int) -> Reply:
        """Return what a model answers to a request."""
        return self._replies[index][model]

    def grade(self, index: int, text: str) -> float:
        """Return the quality of an answer to a request."""
        return grade(self.prompts[index], text)

    @cached_property
    def table(self) -> Table:
        """The outcome of every request on every model, at published prices."""
        failed = np.array([[reply.status != 200 for reply in row] for row in self._replies])
        tokens = np.array([[(reply.input_tokens, reply.output_tokens) for reply in row] for row in self._replies])
        price = np.array([list_price(model) for model in MODELS])
        return Table(
            models=self.models,
            quality=np.array(
                [
                    [0.0 if reply.status != 200 else self.grade(index, reply.text) for reply in row]
                    for index, row in enumerate(self._replies)
                ]
            ),
            cost_usd=np.where(failed, 0.0, (tokens * price).sum(axis=2)),
            latency_s=np.array([[reply.latency_s for reply in row] for row in self._replies]),
            failed=failed,
        )

    def deployments(self, url: str) -> list[dict[str, Any]]:
        """Return the Router's model list; ``base_model`` makes LiteLLM bill the published price."""
        return [
            deployment(model.name, url, column, f"openai/{model.name}", base_model=model.price_key)
            for column, model in enumerate(MODELS)
        ]


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


def _reply(random: Random, prompt: Prompt, difficulty: float, model: Model) -> Reply:
    failure = random.random()
    ability = math.sqrt(2.0) * NormalDist().inv_cdf(model.ability[prompt.task])
    correct = [ability - difficulty - random.gauss(0.0, 1.0) > 0.0 for _ in prompt.right]
    tokens = _LENGTHS[prompt.task] * len(prompt.right) * model.summary_words / _MEAN_WORDS
    output_tokens = max(1, round(tokens * math.exp(random.gauss(0.0, 0.25))))
    input_tokens = math.ceil((len(SYSTEM_PROMPT) + len(prompt.text)) / _CHARACTERS_PER_TOKEN)
    wait_s = model.first_token_s * math.exp(random.gauss(0.0, 0.35))
    speed = model.tokens_per_s * math.exp(random.gauss(0.0, 0.2))
    if failure < RATE_LIMIT_RATE:
        return Reply(429, "rate limit reached", 0, 0, wait_s)
    if failure < RATE_LIMIT_RATE + SERVER_ERROR_RATE:
        return Reply(500, "internal error", 0, 0, wait_s)
    return Reply(200, answer(prompt, correct), input_tokens, output_tokens, wait_s + output_tokens / speed)


_LENGTHS = {"maths": 160.0, "reasoning": 320.0, "code": 180.0, "extraction": 14.0, "translation": 16.0, "summary": 25.0}
"""Usual output tokens per part of an answer, working included: an assumption, no published figure. How much more or
less than usual a model says is measured: the length of its summaries."""
_MEAN_WORDS = sum(model.summary_words for model in MODELS) / len(MODELS)
_CHARACTERS_PER_TOKEN = 4.0
