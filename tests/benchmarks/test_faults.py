"""The fault benchmark counts failed, lost and misordered events correctly."""

from pathlib import Path

import pytest
from litellm.router import Router

from benchmarks import faults
from benchmarks.percentiles import percentiles
from conduit_litellm import ConduitRoutingStrategy


@pytest.fixture
def strategy(tmp_path: Path) -> ConduitRoutingStrategy:
    return ConduitRoutingStrategy(log_path=tmp_path, host_learner=False)


async def test_every_request_is_sent_timed_and_found_in_the_log(strategy: ConduitRoutingStrategy) -> None:
    ours, control = faults.new_router(), faults.new_router()
    strategy.install(ours)
    ours_us: list[float] = []
    control_us: list[float] = []
    routers = (faults.timed(ours, ours_us), faults.timed(control, control_us))
    decisions, failures, late = await faults.serve(strategy, routers, rate=100.0, seconds=0.3)
    assert len(set(decisions)) == len(ours_us) == len(control_us) == 30 and not failures and late <= 30
    await faults.until(lambda: strategy.counters["outcomes_success"] == 30, "the outcomes", timeout_s=180.0)
    await strategy.aclose()
    found = await faults.logged(strategy.log_settings)
    assert set(found["selection"]) == set(found["outcome"]) == set(decisions)
    assert faults.out_of_order(found["selection"]) == 0


async def test_a_request_that_fails_is_told_from_one_that_does_not(strategy: ConduitRoutingStrategy) -> None:
    params = {"model": "openai/gpt-4o-mini", "api_key": "unused", "mock_response": Exception("refused")}
    ours = Router(model_list=[{"model_name": "chat", "litellm_params": params}], num_retries=0)
    strategy.install(ours)
    decisions, failures, _ = await faults.serve(strategy, (ours, faults.new_router()), rate=100.0, seconds=0.03)
    assert decisions == [] and len(failures) == 3 and "refused" in failures[0]
    await strategy.aclose()


async def test_waiting_ends() -> None:
    with pytest.raises(SystemExit, match="the impossible"):
        await faults.until(lambda: False, "the impossible", timeout_s=0.1)


def test_the_percentiles_are_those_of_the_definition() -> None:
    assert percentiles([float(number) for number in range(1, 100)]) == {"p50": 50.0, "p99": 99.0}
