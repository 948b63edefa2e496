"""Numerical soundness of posteriors: many updates, extreme numbers, and the effect of rounding to 32-bit floats.

Run ``python -m benchmarks.numerics``; with ``--json`` the last line of the output is one JSON object. Two arms' models
learn ``--updates`` rows (10 million by default) with fading and alarms. The rows are as extreme as events may be, one
arm always gets the same row, and there is almost no regularisation. At ten points every posterior must be finite and
every precision positive definite. Then policies that have learned from ordinary traffic choose for many contexts, once
with their snapshot as published, and once with every float moved by twice the largest rounding error of 32 bits. The
largest difference of a probability is the effect of the rounding.
"""

import argparse
import json
import random
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.core.targets import to_grid
from conduit_policy import ALGORITHMS, Beliefs, Objective, choose, pack_context, to_fixed_point
from conduit_policy.vectors import pack_vector, unpack_vector
from conduit_schemas import LearningSettings, Snapshot, encode

ROUNDING = 2.0**-24
"""Largest relative error of a number rounded to 32 bits."""

ARMS = tuple(f"arm{number}" for number in range(8))


def endure(updates: int, *, dimension: int = 16, looks: int = 10) -> dict[str, Any]:
    """Learn extreme rows for a long time; return the number of posteriors checked and the smallest eigenvalue."""
    settings = LearningSettings(dimension=dimension, featurizer="numerics", lambda_reg=1e-5)
    learner = PolicyLearner("numerics/extreme", settings)
    for arm in ARMS[:2]:
        learner.add_arm(arm)
    rng = np.random.default_rng(1)
    rows = rng.integers(-32768, 32768, (4096, dimension)).astype("<i2")
    rows[::2, 1:] = np.where(rng.random((2048, dimension - 1)) < 0.5, -32768, 32767)  # the largest there are
    rows[::3, 2] = rows[::3, 1]  # and collinear ones
    rows[:, 0] = 1024
    contexts = [row.tobytes() for row in rows]
    values = [
        {"quality": n % 2 * 1.0, "success": float(n % 3 > 0), "cost": (-32.0, 13.8)[n % 2], "latency": to_grid(n % 31)}
        for n in range(997)
    ]
    least = np.inf
    for look in range(looks):
        for number in range(look * updates // looks, (look + 1) * updates // looks):
            row = contexts[number & 4095] if number & 1 else contexts[0]
            learner.learn(ARMS[number & 1], row, values[number % 997])
        snapshot = learner.snapshot(partition=0, offset=learner.ticks, now_ms=0)
        for arm in ARMS[:2]:
            for posterior in snapshot.arms[arm].signals.values():
                for vector in (posterior.mean, posterior.precision):
                    if not np.isfinite(unpack_vector(vector)).all():
                        raise ArithmeticError(f"after {learner.ticks:,} updates a posterior is not finite")
                if not (unpack_vector(posterior.precision) > 0.0).all():
                    raise ArithmeticError(f"after {learner.ticks:,} updates a precision is not positive")
                if not np.isfinite([posterior.baseline, posterior.sigma, posterior.average]).all():
                    raise ArithmeticError(f"after {learner.ticks:,} updates a level is not finite")
            for model in learner.arms[arm].models.values():
                gram = model.statistics().gram
                smallest = float(np.linalg.eigvalsh(gram + np.eye(len(gram)) * settings.lambda_reg)[0])
                if not smallest > 0.0:
                    raise ArithmeticError(f"after {learner.ticks:,} updates a precision has eigenvalue {smallest}")
                least = min(least, smallest)
        print(f"{learner.ticks:,} updates: finite, positive definite", file=sys.stderr, flush=True)
    return {"updates": learner.ticks, "least_eigenvalue": least, "alarms": learner.alarms}


def rounding(asked: int, *, seeds: int = 3) -> dict[str, dict[str, float]]:
    """Return, by algorithm, how far probabilities move when every float of a snapshot is moved."""
    found = {}
    for name in ALGORITHMS:
        moved = []
        for seed in range(seeds):
            snapshot = taught(name, 1500, seed)
            shaken = _shaken(snapshot, seed)
            rng = np.random.default_rng(seed)
            for _ in range(asked):
                context = to_fixed_point(np.r_[1.0, rng.normal(size=snapshot.settings.dimension - 1)])
                first, second = (_probabilities(known, context) for known in (snapshot, shaken))
                moved.append(float(np.abs(first - second).max()))
        found[name] = {"largest": max(moved), "share_above_0.001": sum(m > 1e-3 for m in moved) / len(moved)}
    return found


def sizes() -> dict[str, int]:
    """Return the bytes of a snapshot, by arms and dimension."""
    found = {}
    for arms, dimension in ((4, 64), (10, 64), (10, 384), (100, 64)):
        learner = PolicyLearner("numerics/size", LearningSettings(dimension=dimension, featurizer="numerics"))
        for number in range(arms):
            learner.add_arm(f"deployment-{number:04d}")
        rng = random.Random(1)
        for number in range(4 * arms):
            row = (1024).to_bytes(2, "little") + rng.randbytes(2 * dimension - 2)
            learner.learn(f"deployment-{number % arms:04d}", row, {"quality": 0.5, "cost": -7.0, "latency": 0.5})
        found[f"{arms} arms, {dimension} features"] = len(encode(learner.snapshot(partition=0, offset=1, now_ms=0)))
    return found


def taught(algorithm: str, updates: int, seed: int) -> Snapshot:
    """Return the snapshot of a policy that has learned from ordinary outcomes of 8 arms."""
    dimension = 32
    learner = PolicyLearner(
        "numerics/rounding", LearningSettings(algorithm=algorithm, dimension=dimension, featurizer="numerics")
    )
    rng = np.random.default_rng(seed)
    weights = rng.normal(scale=0.05, size=(len(ARMS), dimension))
    for arm in ARMS:
        learner.add_arm(arm)
    for number in range(updates):
        chosen = number % len(ARMS)
        context = np.r_[1.0, rng.normal(size=dimension - 1)]
        quality = float(np.clip(0.6 + weights[chosen] @ context + rng.normal(scale=0.2), 0.0, 1.0))
        learner.learn(
            ARMS[chosen],
            pack_context(to_fixed_point(context)),
            {"quality": to_grid(quality), "success": 1.0, "cost": to_grid(-8.0 + chosen / 4 + rng.normal(scale=0.3))},
        )
    return learner.snapshot(partition=0, offset=updates, now_ms=0)


def _shaken(snapshot: Snapshot, seed: int) -> Snapshot:
    rng = np.random.default_rng([seed, 9])

    def move(vector: bytes) -> bytes:
        numbers = unpack_vector(vector).astype(np.float64)
        moved = numbers * (1.0 + ROUNDING * rng.choice((-2.0, 2.0), len(numbers)))
        return pack_vector(np.clip(moved, -3.4e38, 3.4e38))

    arms = {
        name: arm.model_copy(
            update={
                "signals": {
                    signal: belief.model_copy(update={"mean": move(belief.mean), "precision": move(belief.precision)})
                    for signal, belief in arm.signals.items()
                }
            }
        )
        for name, arm in snapshot.arms.items()
    }
    return snapshot.model_copy(update={"arms": arms})


def _probabilities(snapshot: Snapshot, context: NDArray[np.int16]) -> NDArray[np.float64]:
    return choose(Beliefs(snapshot), context, ARMS, objective=Objective(), decision_id="numerics").probabilities


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.numerics", description=__doc__.partition("\n")[0])
    parser.add_argument("--updates", type=int, default=10_000_000)
    parser.add_argument("--asked", type=int, default=1000, help="contexts per policy")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    results = {"rounding": rounding(options.asked), "snapshot_bytes": sizes(), "endurance": endure(options.updates)}
    print(json.dumps(results, indent=2))
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
