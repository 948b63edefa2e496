import math

import numpy as np
import pytest

from conduit_demo import metrics
from conduit_demo.world import SimulatedWorld, Table
from conduit_policy import Objective

DEAR, CHEAP = 0, 1


def test_a_run_is_judged_by_its_last_calls(table: Table) -> None:
    # Request 0: cheap. 1: dear fails once, is asked again. 2: cheap fails, dear answers. 3: cheap fails, once only.
    served = metrics.replayed(table, {0: [CHEAP], 1: [DEAR, DEAR], 2: [CHEAP, DEAR], 3: [CHEAP]})
    assert served.chosen.tolist() == [CHEAP, DEAR, DEAR, CHEAP]
    assert served.quality.tolist() == [0.5, 1.0, 0.5, 0.0]
    assert served.cost_usd.tolist() == [0.001, 0.08, 0.04, 0.0]
    assert served.error.tolist() == [False, False, False, True]
    assert served.retried.tolist() == [False, True, True, True]
    assert served.latency_s == pytest.approx([1.0, 8.5, 4.3, 0.25])


def test_a_request_that_reached_no_model_is_an_error(table: Table) -> None:
    served = metrics.replayed(table, {0: [DEAR]})
    assert served.chosen.tolist() == [DEAR, -1, -1, -1]
    assert served.error.tolist() == [False, True, True, True]
    assert served.quality.sum() == 1.0


def test_a_fixed_model_retries_itself(table: Table) -> None:
    served = metrics.always(table, CHEAP)
    assert served.error.tolist() == [False, False, True, False]  # three failures leave no attempt for an answer
    assert served.quality.tolist() == [0.5, 0.0, 0.0, 0.5]
    assert served.latency_s == pytest.approx([1.0, 2.0, 0.9, 1.25])


def test_figures_are_means_over_the_requests_that_count(table: Table) -> None:
    served = metrics.replayed(table, {0: [CHEAP], 1: [DEAR, DEAR], 2: [CHEAP, DEAR], 3: [CHEAP]})
    whole = metrics.figures(served, table.models)
    assert whole["quality"] == pytest.approx(2.0 / 4.0)
    assert whole["cost_usd"] == pytest.approx(0.121 / 4.0)
    assert whole["cost_usd_total"] == pytest.approx(0.121)
    assert whole["latency_s"] == pytest.approx((1.0 + 8.5 + 4.3 + 0.25) / 4.0)
    assert whole["errors"] == 0.25
    assert whole["retried"] == 0.75
    assert whole["share"] == {"dear": 0.5, "cheap": 0.5}
    later = metrics.figures(served, table.models, start=2)
    assert later["quality"] == pytest.approx(0.25)
    assert later["cost_usd"] == pytest.approx(0.02)
    assert later["latency_p95_s"] == pytest.approx(0.25 + 0.95 * (4.3 - 0.25))


def test_unknown_latencies_are_left_out() -> None:
    one = np.ones(2)
    flags = np.zeros(2, np.bool_)
    served = metrics.Served(np.zeros(2, np.int64), one, one, np.array([math.nan, 3.0]), flags, flags)
    assert metrics.figures(served, ("a",))["latency_s"] == 3.0
    unknown = metrics.Served(np.zeros(2, np.int64), one, one, one * math.nan, flags, flags)
    assert metrics.figures(unknown, ("a",))["latency_s"] is None
    assert metrics.figures(unknown, ("a",))["latency_p95_s"] is None


def test_the_fixed_policies_are_found(table: Table) -> None:
    assert metrics.most_expensive(table) == DEAR
    assert metrics.best_by_quality(table) == DEAR  # 3.5 of 4 against 1 of 4
    assert metrics.best_by_objective(table, Objective(cost=0.1, latency=0.0)) == DEAR
    # From dear to cheap is the whole span, so a weight above the loss of quality (0.625) tips the balance.
    assert metrics.best_by_objective(table, Objective(cost=0.62, latency=0.0)) == DEAR
    assert metrics.best_by_objective(table, Objective(cost=0.63, latency=0.0)) == CHEAP
    assert metrics.best_by_objective(table, Objective(cost=0.0, latency=0.63)) == CHEAP
    # The whole objective counts: twice the quality is worth twice the cost, and no request here has a first token.
    assert metrics.best_by_objective(table, Objective(quality=2.0, cost=1.24, latency=0.0, ttft=9.0)) == DEAR
    assert metrics.best_by_objective(table, Objective(quality=2.0, cost=1.26, latency=0.0, ttft=9.0)) == CHEAP


def test_near_prices_count_little_and_unknown_latencies_nothing(table: Table) -> None:
    near = Table(
        models=table.models,
        quality=np.array([[0.6, 0.5]]),
        cost_usd=np.array([[2.0, 1.0]]),
        latency_s=np.array([[math.nan, math.nan]]),
        failures=np.zeros((1, 2), np.int64),
        lost_s=np.zeros((1, 2)),
    )
    # A factor of 2 is half of the least span, a factor of 4: a weight of 0.19 costs 0.095, one of 0.21 costs 0.105.
    assert metrics.best_by_objective(near, Objective(cost=0.19, latency=9.0)) == DEAR
    assert metrics.best_by_objective(near, Objective(cost=0.21, latency=9.0)) == CHEAP


def test_a_mix_of_models_reaches_the_upper_hull() -> None:
    table = Table(
        models=("small", "poor", "big"),
        quality=np.array([[0.4, 0.3, 0.8]]),
        cost_usd=np.array([[1.0, 2.0, 5.0]]),
        latency_s=np.ones((1, 3)),
        failures=np.zeros((1, 3), np.int64),
        lost_s=np.zeros((1, 3)),
    )
    assert metrics.mixed_quality(table, 3.0) == pytest.approx(0.6)
    assert metrics.mixed_quality(table, 1.0) == pytest.approx(0.4)
    assert metrics.mixed_quality(table, 9.0) == pytest.approx(0.8)
    assert metrics.mixed_quality(table, 0.5) == pytest.approx(0.4)  # nothing is cheaper than the cheapest


def test_random_choice_treats_all_models_alike_and_tries_elsewhere() -> None:
    table = SimulatedWorld(3000, 4).table
    served = metrics.at_random(table, 4)
    share = np.bincount(served.chosen, minlength=6) / 3000
    assert np.abs(share - 1.0 / 6.0).max() < 0.03
    assert served.quality.mean() == pytest.approx(table.quality.mean(), abs=0.03)
    assert served.retried.mean() == pytest.approx(0.02, abs=0.01)
    assert served.error.sum() == 0
    assert np.array_equal(served.chosen, metrics.at_random(table, 4).chosen)
