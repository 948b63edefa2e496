"""A LiteLLM Router that learns: watch the traffic move to the models that answer correctly at a low price.

python examples/feedback_loop.py [--requests 400]
"""

import argparse
import asyncio
import tempfile
from collections import Counter

from litellm import Router
from local_models import local_models, model_list, questions

from conduit_litellm import ConduitRoutingStrategy


async def main(requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:  # without log_path, everything learned is stored in ~/.conduit
        async with local_models() as models:
            router = Router(model_list=model_list(models))
            strategy = ConduitRoutingStrategy(log_path=folder)
            strategy.install(router)

            served: Counter[str] = Counter()
            right = 0
            for number, (question, answer) in enumerate(questions(requests), start=1):
                messages = [{"role": "user", "content": question}]
                response = await router.acompletion(model="assistant", messages=messages)

                # Rate the answer, now or minutes later: with a user's rating, a test or a judge.
                correct = response.choices[0].message.content == str(answer)
                deployment_id = response._hidden_params["model_id"]
                await strategy.record_feedback(
                    deployment_id, quality_score=float(correct), decision_id=strategy.decision_id(response)
                )

                served[deployment_id] += 1
                right += correct
                if number % 100 == 0:
                    shares = ", ".join(f"{name} {served[name]:3d}" for name in sorted(served))
                    print(f"requests {number - 99:4d} to {number:4d}: {shares}; {right:3d} right", flush=True)
                    served.clear()
                    right = 0
            await strategy.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400)
    asyncio.run(main(parser.parse_args().requests))
