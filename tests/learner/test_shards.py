"""A policy learned in shards: however it is split, the whole has the same bits."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_traffic import POLICY, learned, stored, traffic

from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.models.regression import BLOCK
from conduit_learner.shards import MAX_EPOCH_ROWS, EpochError, PolicyShard, WholePolicy
from conduit_log import StoredMessage
from conduit_schemas import ArmSnapshot, Event, LearningSettings, decode_event

SETTINGS = LearningSettings(window_size=200)


def partition(shard: PolicyLearner) -> PartitionLearner:
    learner = PartitionLearner(0)
    learner.policies[POLICY] = shard
    return learner


def split(
    log: Iterable[StoredMessage], shards: int, epoch: int, seed: int = 0
) -> tuple[dict[str, ArmSnapshot], dict[str, int]]:
    """Give every decision to one of the shards, end an epoch every so many ticks, and return what the whole knows."""
    rng = random.Random(seed)
    parts = [PolicyShard(POLICY, SETTINGS) for _ in range(shards)]
    learners = [partition(part) for part in parts]
    whole = WholePolicy(POLICY, SETTINGS)
    homes: dict[str, int] = {}
    for message in log:
        event = decode_event(message.value)
        home = homes.setdefault(event.decision_id, rng.randrange(shards))  # type: ignore[union-attr]  # no settings here
        learners[home].apply(message)
        if sum(part.ticks for part in parts) >= epoch:
            shares = [part.take() for part in parts]
            rng.shuffle(shares)
            whole.add_epoch(shares)
    whole.add_epoch([part.take() for part in parts])
    return known(whole)


def known(policy: PolicyLearner) -> tuple[dict[str, ArmSnapshot], dict[str, int]]:
    snapshot = policy.snapshot(partition=0, offset=0, now_ms=0)
    counts = ("selections", "outcomes", "feedbacks", "censored")
    return snapshot.arms, {name: getattr(snapshot, name) for name in counts} | {"ticks": policy.ticks}


def undisturbed(log: Iterable[StoredMessage]) -> tuple[dict[str, ArmSnapshot], dict[str, int]]:
    learner = partition(PolicyLearner(POLICY, SETTINGS))
    for message in log:
        learner.apply(message)
    return known(learner.policies[POLICY])


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 6))
@settings(max_examples=6)
def test_epochs_of_one_block_give_the_bits_of_a_learner_that_was_never_split(
    seed: int, decisions: int, shards: int
) -> None:
    log = stored(without_late_selections(traffic(decisions, seed=seed)))
    assert split(log, shards, BLOCK, seed) == undisturbed(log)


@given(st.integers(0, 2**32), st.integers(20, 500), st.integers(2, 6))
@settings(max_examples=6)
def test_any_epoch_gives_the_same_bits_for_any_number_of_shards(seed: int, epoch: int, shards: int) -> None:
    log = stored(without_late_selections(traffic(200, seed=seed)))
    assert split(log, shards, epoch, seed) == split(log, 1, epoch)


def without_late_selections(events: list[Event]) -> list[Event]:
    """Let outcomes follow their selection: several that waited for one would end in the middle of an epoch."""
    rank = {"selection": 0}
    return sorted(events, key=lambda event: rank.get(event.kind, 1))


def test_a_long_epoch_forgets_a_little_less_and_is_close() -> None:
    log = stored(traffic(1_000))
    (whole, _), (single, _) = split(log, 3, 300), known(learned(log).policies[POLICY])
    for arm, snapshot in single.items():
        for signal, posterior in snapshot.signals.items():
            assert whole[arm].signals[signal].average == pytest.approx(posterior.average, abs=0.15)


def test_an_epoch_that_may_have_been_rounded_is_refused_and_changes_nothing() -> None:
    whole = WholePolicy(POLICY)
    shards = [PolicyShard(POLICY) for _ in range(2)]
    for shard in shards:
        shard.add_arm("a")
        for _ in range(MAX_EPOCH_ROWS // 2 + 1):
            shard.learn("a", None, {"success": 1.0})
    with pytest.raises(EpochError, match=r"arm 'a', success: 2050 rows.*shorter"):
        whole.add_epoch(shard.take() for shard in shards)
    assert not whole.arms and not whole.ticks


def test_shards_of_other_settings_are_refused() -> None:
    shard = PolicyShard(POLICY, LearningSettings(featurizer="tiny", dimension=4))
    shard.add_arm("a")
    with pytest.raises(EpochError, match="4 features, the whole 64"):
        WholePolicy(POLICY).add_epoch([shard.take()])
