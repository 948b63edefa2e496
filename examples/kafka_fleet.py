"""A fleet on one machine: two application servers and two learners, connected by one Kafka log.

    python examples/kafka_fleet.py --bootstrap-servers localhost:9092

Every part is a separate process. The applications share what is learned although they never talk to each other, and
the learners share the work: half-way through, one of them is killed and the other one takes over.
"""

import argparse
import asyncio
import json
import os
import sys
from asyncio import create_subprocess_exec as start
from collections import Counter

from local_models import deployment, local_models, questions

from conduit_litellm import create_service


async def application(brokers: str, prefix: str, url: str, name: str, requests: int) -> None:
    """Run one application server; it prints which models served its second half."""
    async with await create_service(
        models=[deployment(model, url) for model in ("small", "medium", "large")],
        bootstrap_servers=brokers,
        topic_prefix=prefix,
    ) as service:
        served: Counter[str] = Counter()
        chosen = 0
        for number, (question, answer) in enumerate(questions(requests, seed=int(name))):
            result = await service.complete(question)
            await service.feedback(result, float(result.text == str(answer)))
            await asyncio.sleep(0.02)
            if number >= requests // 2:
                served[result.deployment_id] += 1
                chosen += "with a probability of" in result.explanation
        print(json.dumps({"app": name, "second half": dict(served), "chosen by what was learned": chosen}), flush=True)


async def main(brokers: str, prefix: str, requests: int) -> None:
    where = ["--bootstrap-servers", brokers, "--prefix", prefix]
    conduit = [sys.executable, "-m", "conduit_learner"]
    await (await start(*conduit, "topics", "create", *where)).wait()
    learners = [await start(*conduit, "learner", *where) for _ in range(2)]
    try:
        async with local_models() as models:
            url = models[0]["api_base"].removesuffix("/v1")
            told = [sys.executable, __file__, *where, "--requests", str(requests), "--application-of", url]
            apps = [await start(*told, "--name", str(name)) for name in range(2)]
            await asyncio.sleep(requests * 0.02)
            print(f"learner {learners[0].pid} is killed; learner {learners[1].pid} takes over", flush=True)
            learners[0].kill()
            if any([await app.wait() for app in apps]):
                raise SystemExit("an application failed")
    finally:
        learners[1].terminate()
        await asyncio.gather(*[learner.wait() for learner in learners])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", default=os.environ.get("CONDUIT_BOOTSTRAP_SERVERS", "localhost:9092"))
    parser.add_argument("--prefix", default="fleet", help="prefix of the topic names")
    parser.add_argument("--requests", type=int, default=300, help="requests of each application")
    parser.add_argument("--application-of", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.application_of:
        parts = (options.prefix, options.application_of, options.name, options.requests)
        asyncio.run(application(options.bootstrap_servers, *parts))
    else:
        asyncio.run(main(options.bootstrap_servers, options.prefix, options.requests))
