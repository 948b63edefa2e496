"""The shortest example: one service, typed answers, feedback.

python examples/basic_usage.py
"""

import asyncio

from local_models import local_models, questions
from pydantic import BaseModel

from conduit_litellm import create_service


class Result(BaseModel):
    answer: int


async def main() -> None:
    async with (
        local_models() as models,  # or models = ["openai/gpt-5.4-mini", "anthropic/claude-sonnet-5", ...]
        await create_service(models=models, default_result_type=Result) as service,
    ):
        print("choosing among", ", ".join(service.supported_models()))
        for question, right in questions(5):
            result = await service.complete(prompt=question)
            await service.feedback(result, 1.0 if result.data.answer == right else 0.0)
            print(f"{question} {result.data.answer}, by {result.model} for ${result.cost_usd:.6f}")
        print("why?", result.explanation)


if __name__ == "__main__":
    asyncio.run(main())
