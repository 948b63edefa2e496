from benchmarks.rollout import decisions


def test_equals_are_promoted_and_the_worse_side_is_taken_back() -> None:
    number, stage = decisions(0.9, 0.9, 0.2, seed=1)
    assert stage == "promoted" and number < 1000
    number, stage = decisions(0.5, 0.9, 0.1, seed=1)
    assert stage == "rolled_back" and number < 1000
