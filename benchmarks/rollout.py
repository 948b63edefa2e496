"""How many rated decisions per side an automatic promotion or rollback takes.

``python -m benchmarks.rollout [--seeds 5] [--json]``: two sides whose ratings are 0 or 1 with fixed probabilities, and
which never fail. The last line is one JSON object.
"""

import argparse
import json
import random

from conduit_learner.core.rollout import Rollout
from conduit_schemas import AutomaticRollout, RolloutStage

_MAX_STEPS = 50_000

CASES = {
    "promotion, both at 0.9, margin 0.1": (0.9, 0.9, 0.1),
    "promotion, both at 0.9, margin 0.05": (0.9, 0.9, 0.05),
    "promotion, both at 0.7, margin 0.1": (0.7, 0.7, 0.1),
    "promotion, both at 0.7, margin 0.05": (0.7, 0.7, 0.05),
    "rollback, 0.7 against 0.9, margin 0.05": (0.7, 0.9, 0.05),
}
"""Quality of Conduit and of the control, and the margin."""


def decisions(conduit: float, control: float, margin: float, seed: int) -> tuple[int, str]:
    """Return the number of decisions per side until the testing stage ended, and the next stage."""
    rng = random.Random(seed)
    rollout = Rollout(AutomaticRollout(margin=margin))
    for number in range(1, _MAX_STEPS + 1):
        for group, quality in (("conduit", conduit), ("control", control)):
            rollout.observe(group, "success", 1.0, 0)
            rollout.observe(group, "quality", float(rng.random() < quality), 0)
        if rollout.state.stage is not RolloutStage.TESTING:
            return number, rollout.state.stage
    return _MAX_STEPS, "testing"


def main() -> None:
    """Run every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the JSON object only")
    options = parser.parse_args()
    found = {}
    for name, case in CASES.items():
        runs = [decisions(*case, seed) for seed in range(options.seeds)]
        numbers, stages = [number for number, _ in runs], sorted({stage for _, stage in runs})
        found[name] = {"decisions": numbers, "stages": stages}
        if not options.json:
            print(f"{name}: {min(numbers)} to {max(numbers)} rated decisions a side, {', '.join(stages)}")
    print(json.dumps({"benchmark": "rollout", "seeds": options.seeds, "cases": found}))


if __name__ == "__main__":
    main()
