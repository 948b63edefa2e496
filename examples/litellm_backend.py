"""What else a service does: settings per request, streaming, fallbacks, distinct errors.

python examples/litellm_backend.py
"""

import asyncio

from local_models import local_models

from conduit_litellm import create_service
from conduit_litellm.service import CompletionError


async def main() -> None:
    async with local_models() as (small, medium, large):
        broken = {"id": "broken", "model": "openai/broken", "api_base": "http://127.0.0.1:9/v1", "api_key": "none"}
        async with await create_service(
            execution_backend="litellm",  # or "pydantic_ai"
            models=[small, medium, broken],
            fallbacks=[large],
            objective="balanced",
            retries=2,
            timeout_s=10.0,
        ) as service:
            for number in range(6):  # sooner or later "broken" is tried, and another model answers instead
                result = await service.complete(prompt=f"Add {number} and 17.", user_id="ann")
                print(f"{result.text} from {result.model} after {result.attempts} attempt(s)")

            result = await service.complete(
                prompt="Multiply 17 by 23.", objective="cost", constraints={"max_cost_usd": 0.001, "max_latency_s": 5.0}
            )
            print("as cheaply as possible:", result.text, "-", result.explanation)

            async with service.stream("Add 4 and 4.") as stream:
                async for piece in stream:
                    print("streamed:", piece)
            print(f"{stream.completion.total_tokens} tokens, ${stream.completion.cost_usd:.6f}")

        async with await create_service(models=[broken], retries=0) as service:
            try:
                await service.complete(prompt="Add 1 and 1.")
            except CompletionError as error:  # ModelUnavailableError; see conduit_litellm.service.errors for all
                print(f"{type(error).__name__}: {error.model} did not answer")


if __name__ == "__main__":
    asyncio.run(main())
