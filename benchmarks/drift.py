"""Drift detection: delay and false alarms of Conduit's detector and of river's ADWIN on the same streams.

Run ``python -m benchmarks.drift``; with ``--json`` the last line of the output is one JSON object. Observations are
checked in blocks of 8 and of 30, which correspond to arms with a small and with a large share of the traffic.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN

from conduit_learner.models.drift import Watch, detect_changes, rebase
from conduit_learner.models.regression import AdditiveRegression, fold
from conduit_policy import SIGNALS

STEADY: dict[str, tuple[str, Callable[[np.random.Generator, int], NDArray[np.float64]]]] = {
    "bernoulli_0.9": ("quality", lambda rng, n: (rng.random(n) < 0.9).astype(float)),
    "bernoulli_0.5": ("quality", lambda rng, n: (rng.random(n) < 0.5).astype(float)),
    "bernoulli_0.99": ("success", lambda rng, n: (rng.random(n) < 0.99).astype(float)),
    "beta_9_1": ("quality", lambda rng, n: rng.beta(9.0, 1.0, n)),
    "normal": ("cost", lambda rng, n: rng.normal(-7.0, 1.0, n)),
    "narrow_normal": ("cost", lambda rng, n: rng.normal(-7.0, 0.2, n)),
    "student_t3": ("latency", lambda rng, n: rng.standard_t(3, n)),
}
BLOCKS = (8, 30)
_ONE = (1024).to_bytes(2, "little")
_REMEMBERED = 2000


def alarms(targets: Sequence[float], signal: str, block: int) -> list[int]:
    """Return the number of observations before each alarm."""
    models = {name: AdditiveRegression.of_dimension(1, fixed_point=True) for name in SIGNALS}
    watch, row = Watch(dict.fromkeys(SIGNALS, 1)), list(SIGNALS).index(signal)
    found = []
    for start in range(0, len(targets), block):
        for target in targets[start : start + block]:
            models[signal].learn_row(_ONE, target)
        fold(models.values())
        for change in detect_changes([(watch, models)], prior=np.ones(1))[0]:
            rebase(watch, row, models[signal], change)
            found.append(start + block)
        factor = 1.0 - block / _REMEMBERED
        for model in models.values():
            model.fade(factor)
        watch.fade(factor)
    return found


def adwin_alarms(targets: Sequence[float]) -> list[int]:
    """Return the same for river's detector with its defaults."""
    detector, found = ADWIN(), []  # type: ignore[no-untyped-call]  # river's
    for number, target in enumerate(targets, 1):
        detector.update(target)  # type: ignore[no-untyped-call]  # river's
        if detector.drift_detected:
            found.append(number)
    return found


def measure(length: int, streams: int) -> dict[str, object]:
    """Return both detectors' false alarms and delays."""
    rng = np.random.default_rng(0)
    false: dict[str, dict[str, int]] = {}
    for name, (signal, make) in STEADY.items():
        drawn = [make(rng, length).tolist() for _ in range(streams)]
        false[name] = {f"block_{b}": sum(len(alarms(targets, signal, b)) for targets in drawn) for b in BLOCKS}
        false[name]["adwin"] = sum(len(adwin_alarms(targets)) for targets in drawn)
    delays: dict[str, dict[str, float | None]] = {}
    for fall in (0.15, 0.3, 0.55):
        drawn = [
            np.concatenate([rng.random(1500) < 0.9, rng.random(1500) < 0.9 - fall]).astype(float).tolist()
            for _ in range(2 * streams)
        ]
        delays[f"0.9 to {0.9 - fall:g}"] = {
            **{f"block_{b}": _delay([alarms(targets, "quality", b) for targets in drawn]) for b in BLOCKS},
            "adwin": _delay([adwin_alarms(targets) for targets in drawn]),
        }
    return {
        "observations_each": length * streams,
        "false_alarms": false,
        "median_delay_observations": delays,
    }


def _delay(found: Sequence[Sequence[int]]) -> float | None:
    """Return the median over streams; None if half of them never raised an alarm."""
    first = [next((number - 1500 for number in numbers if number > 1500), np.inf) for numbers in found]
    middle = float(median(first))
    return middle if np.isfinite(middle) else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__.partition("\n")[0])
    parser.add_argument("--length", type=int, default=20_000, help="observations per stream that never changes")
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    results = measure(options.length, options.streams)
    print(json.dumps(results, indent=2))
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
