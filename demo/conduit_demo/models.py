"""The models of the demo: real ones, with published prices, scores and speeds.

No number here is invented or tuned to flatter a router; each one names its source. The pool is one that a team might
really use: two strong models, two medium ones and two small ones, from three vendors. GPT-4.1 mini is left out on
purpose: it scores like GPT-4.1 at a fifth of the price, so any router would look good with it.

Prices are not in this file: they are read from the price list that LiteLLM ships and computes costs with.

Sources
-------
[E] github.com/openai/simple-evals, README at commit ee3b031 (July 2025): GPQA, MATH, HumanEval, MGSM, and DROP
    (F1, 3-shot); other vendors' rows are their own reports as collected there.
[V] github.com/vectara/hallucination-leaderboard, README of 16 October 2025: factual consistency rate, and average
    summary length in words.
[A] artificialanalysis.ai, medians: Claude 3.5 Sonnet (provider page), GPT-4.1 (OpenAI: 89 tokens/s, 0.52 s),
    GPT-4.1 nano (181 tokens/s, 0.63 s; as listed by benchlm.ai/llm-speed, April 2026).
[K] kickllm.com/research/llm-speed-benchmark.html, April 2026: medians of 50 requests; the 70B row is Llama 3.3,
    which has the size and architecture of Llama 3.1.
[D] Datadog, "State of AI Engineering 2026": in March 2026, 2 % of model calls failed, about 30 % of those with
    a rate limit. The report does not distinguish models, so all models here fail equally often.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from conduit_schemas import ConfigurationError

__all__ = ["MODELS", "RATE_LIMIT_RATE", "SERVER_ERROR_RATE", "Model", "list_price"]

RATE_LIMIT_RATE = 0.02 * 0.30  # [D]
SERVER_ERROR_RATE = 0.02 * 0.70  # [D]


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the demo's server simulates."""

    name: str
    price_key: str
    """Its entry in LiteLLM's price list."""
    ability: Mapping[str, float]
    """Mean quality per kind of task, 0..1."""
    first_token_s: float
    """Median time to the first token, seconds."""
    tokens_per_s: float
    """Median output speed."""
    summary_words: float
    """Average length of a summary in words, as a measure of verbosity."""


def _ability(
    *, gpqa: float, math: float, humaneval: float, mgsm: float, drop: float, consistency: float
) -> dict[str, float]:
    """Map published scores, in per cent, to the demo's tasks.

    A benchmark represents a kind of task as a whole; a model's result on a single prompt is simulated. MGSM (word
    problems in eleven languages) represents translation, because no published translation score covers all six models.
    """
    return {
        "reasoning": gpqa / 100.0,
        "maths": math / 100.0,
        "code": humaneval / 100.0,
        "translation": mgsm / 100.0,
        "extraction": drop / 100.0,
        "summary": consistency / 100.0,
    }


MODELS = (
    Model(
        name="claude-3.5-sonnet",
        price_key="anthropic.claude-3-5-sonnet-20240620-v1:0",
        ability=_ability(gpqa=59.4, math=71.1, humaneval=92.0, mgsm=91.6, drop=87.1, consistency=95.4),  # [E], [V]
        first_token_s=0.81,  # [A]
        tokens_per_s=64.0,  # [A]
        summary_words=95.9,  # [V]
    ),
    Model(
        name="gpt-4.1",
        price_key="gpt-4.1-2025-04-14",
        ability=_ability(gpqa=66.3, math=82.1, humaneval=94.5, mgsm=86.9, drop=79.4, consistency=98.0),  # [E], [V]
        first_token_s=0.52,  # [A]
        tokens_per_s=89.0,  # [A]
        summary_words=71.9,  # [V]
    ),
    Model(
        name="llama-3.1-70b",
        price_key="fireworks_ai/accounts/fireworks/models/llama-v3p1-70b-instruct",
        ability=_ability(gpqa=41.7, math=68.0, humaneval=80.5, mgsm=86.9, drop=79.6, consistency=95.0),  # [E], [V]
        first_token_s=0.20,  # [K]
        tokens_per_s=160.0,  # [K]
        summary_words=79.6,  # [V]
    ),
    Model(
        name="gpt-4o-mini",
        price_key="gpt-4o-mini-2024-07-18",
        ability=_ability(gpqa=40.2, math=70.2, humaneval=87.2, mgsm=87.0, drop=79.7, consistency=98.3),  # [E], [V]
        first_token_s=0.20,  # [K]
        tokens_per_s=160.0,  # [K]
        summary_words=76.3,  # [V]
    ),
    Model(
        name="gpt-4.1-nano",
        price_key="gpt-4.1-nano-2025-04-14",
        ability=_ability(gpqa=50.3, math=62.3, humaneval=87.0, mgsm=73.0, drop=82.2, consistency=98.0),  # [E], [V]
        first_token_s=0.63,  # [A]
        tokens_per_s=181.0,  # [A]
        summary_words=70.2,  # [V]
    ),
    Model(
        name="llama-3.1-8b",
        price_key="fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct",
        ability=_ability(gpqa=30.4, math=51.9, humaneval=72.6, mgsm=68.9, drop=59.5, consistency=94.6),  # [E], [V]
        first_token_s=0.09,  # [K]
        tokens_per_s=280.0,  # [K]
        summary_words=71.0,  # [V]
    ),
)


def list_price(model: Model) -> tuple[float, float]:
    """Return a model's published prices in USD per input and per output token.

    Raises
    ------
    ConfigurationError
        When this version of LiteLLM no longer lists the model.

    Examples
    --------
    >>> list_price(MODELS[0])
    (3e-06, 1.5e-05)
    """
    import litellm  # noqa: PLC0415  # takes seconds to import, and the server's process, which needs no prices, does without

    entry = litellm.model_cost.get(model.price_key)
    if entry is None:
        raise ConfigurationError(
            f"LiteLLM's price list has no entry {model.price_key!r}: use another version of LiteLLM, "
            "or set LITELLM_LOCAL_MODEL_COST_MAP=True to use the list it ships"
        )
    return float(entry["input_cost_per_token"]), float(entry["output_cost_per_token"])
