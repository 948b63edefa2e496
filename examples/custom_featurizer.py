"""Your own featurizer: define it, check it, and see that a policy learns from its features.

Run ``python examples/custom_featurizer.py``. To use it, give its name where a featurizer is configured:
``ConduitRoutingStrategy(featurizer=Subjects())`` in an application; ``featurizer: custom_featurizer:Subjects`` in a
proxy's ``conduit:`` section, or ``CONDUIT_FEATURIZER=custom_featurizer:Subjects`` in its environment, with this file's
folder on ``PYTHONPATH``; ``conduit warm-start --featurizer custom_featurizer:Subjects`` for older logs. In your
own package, declare it as an entry point of the group ``conduit.featurizers`` instead, and give its name alone.
"""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from conduit_learner.bandit import SnapshotBandit
from conduit_learner.checks import check_featurizer, fingerprint
from conduit_policy import Context, Request, to_fixed_point

SUBJECTS = (("contract", "clause", "liability"), ("invoice", "refund", "payment"), ("error", "crash", "log"))


class Subjects:
    """Which of three subjects a request is about, by its words, and how long it is."""

    name = "subjects-v1"  # choose a new name whenever the output changes
    dimension = 2 + len(SUBJECTS)

    def __call__(self, request: Request) -> Context:
        """Return the intercept, the length, and one component for each subject."""
        text = " ".join(_texts(request))[:4096].lower()
        about = [float(any(word in text for word in words)) for words in SUBJECTS]
        return to_fixed_point(np.array([1.0, math.log1p(len(text)) / 8.0, *about]))


def _texts(request: Request) -> Iterator[str]:
    """Yield the texts; a request may hold anything, so everything that is not text is ignored."""
    messages: Any = request.messages
    for message in messages if isinstance(messages, (list, tuple)) else ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield content


def main() -> None:
    """Run the checks that Conduit's own featurizer passes, then let a policy learn which model knows the law."""
    featurizer = Subjects()
    check_featurizer(featurizer, expected="1b4215adeb9a4df3")
    print(f"{featurizer.name} passes every check; its fingerprint is {fingerprint(featurizer)}")
    rng = random.Random(1)
    policy = SnapshotBandit(seed=1)
    right = 0
    for number in range(1_200):
        words = SUBJECTS[number % 3]
        request = Request(messages=[{"role": "user", "content": f"A question about the {rng.choice(words)}"}])
        context = {f"x{place}": float(value) / 1024.0 for place, value in enumerate(featurizer(request)) if place}
        arm = policy.pull(["lawyer", "generalist"], context)
        best = "lawyer" if words is SUBJECTS[0] else "generalist"
        policy.update(arm, context, rng.gauss(0.9 if arm == best else 0.6, 0.05))
        right += arm == best and number >= 600
    print(f"the better model for the subject was chosen for {right / 600:.0%} of the last 600 requests")


if __name__ == "__main__":
    main()
