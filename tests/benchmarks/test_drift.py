from benchmarks.drift import measure


def test_it_tells_delays_and_false_alarms_of_both() -> None:
    found = measure(length=1000, streams=1)
    assert set(found) == {"observations_each", "false_alarms", "median_delay_observations"}
    delays = found["median_delay_observations"]
    assert isinstance(delays, dict)
    fast, slow = delays["0.9 to 0.35"], delays["0.9 to 0.75"]
    assert 0 < fast["block_8"] < 100
    assert 0 < fast["adwin"] < 200
    assert slow["block_8"] is None or slow["block_8"] > fast["block_8"]
