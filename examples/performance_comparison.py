"""Conduit compared with every built-in strategy of LiteLLM, on the same questions and models.

    python examples/performance_comparison.py [--requests 400]

Each strategy has its own router. The first half of the questions does not count: Conduit learns from it, and the other
strategies can fill their windows. The results are those of the second half. The models are simulated, so the numbers
show how it works, not what to expect; for that, see `conduit demo` and the benchmarks.
"""

import argparse
import asyncio
import tempfile
from typing import NamedTuple

from litellm import Router
from local_models import local_models, model_list, questions

from conduit_litellm import ConduitRoutingStrategy

BUILT_IN = ["simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing", "usage-based-routing-v2"]


class Score(NamedTuple):
    right: float
    """Share of correct answers."""
    usd: float
    """Per thousand requests."""


async def score(router: Router, requests: int, strategy: ConduitRoutingStrategy | None = None) -> Score:
    right = cost = counted = 0.0
    for number, (question, answer) in enumerate(questions(requests)):
        response = await router.acompletion(model="assistant", messages=[{"role": "user", "content": question}])
        correct = float(response.choices[0].message.content == str(answer))
        if strategy is not None:
            strategy.rate(correct, decision_id=strategy.decision_id(response))
        if number >= requests // 2:
            counted += 1.0
            right += correct
            cost += response._hidden_params["response_cost"]
    return Score(right / counted, 1000.0 * cost / counted)


async def main(requests: int) -> None:
    scores: dict[str, Score] = {}
    async with local_models() as models:
        for name in BUILT_IN:
            scores[name] = await score(Router(model_list=model_list(models), routing_strategy=name), requests)
        for objective in ("balanced", "quality"):
            with tempfile.TemporaryDirectory() as folder:
                strategy = ConduitRoutingStrategy(objective=objective, log_path=folder)
                router = Router(model_list=model_list(models))
                strategy.install(router)
                scores[f"conduit, {objective}"] = await score(router, requests, strategy)
                await strategy.aclose()
    print(f"{'strategy':24}{'right':>8}{'USD per 1,000':>16}")
    for name, result in scores.items():
        print(f"{name:24}{result.right:8.1%}{result.usd:16.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400)
    asyncio.run(main(parser.parse_args().requests))
