from pathlib import Path

from benchmarks.replay import measure


def test_the_benchmark_replays_exactly_what_was_learned(tmp_path: Path) -> None:
    rates = measure(600, tmp_path)
    assert rates["exact"] is True
    assert rates["events"] >= 600 and rates["snapshots_verified"] == 4
    assert all(rate > 0 for name, rate in rates.items() if name.endswith("_per_s"))
