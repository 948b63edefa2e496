import json
import zlib

import numpy as np
import pytest
from learner_traffic import POLICY, checkpoint_of, learned, resumed, selection, stored, traffic

from conduit_learner.core.checkpoint import CheckpointError, CheckpointWriter, dump, restorations, wants
from conduit_log.ports import MAX_MESSAGE_BYTES
from conduit_schemas import Event, LearningChange, LearningSettings

TOPIC = "conduit.events"
LOG = stored(traffic(300, policies=("default/a", "default/b")))


def test_a_learner_comes_back_as_it_was() -> None:
    learner = learned(LOG)
    [restoration] = restorations(0, TOPIC, checkpoint_of(learner))
    assert dump(resumed(restoration, LOG)) == dump(learner)
    assert restoration.resume_from == 0  # every decision is still open


def test_only_the_open_window_is_read_again() -> None:
    window = LearningSettings(feedback_window_s=2.0)
    events = [
        *(LearningChange(policy=policy, time=0.0, settings=window) for policy in ("default/a", "default/b")),
        *traffic(300, policies=("default/a", "default/b")),
    ]
    log = stored(events)
    learner = learned(log)
    [restoration] = restorations(0, TOPIC, checkpoint_of(learner))
    # 2 seconds are 20 messages, and no event waits longer than 60 seconds for its selection.
    oldest = min((early.message.offset for early in learner.early), default=len(log))
    assert restoration.resume_from == min(oldest, len(log) - 21)
    assert dump(resumed(restoration, log)) == dump(learner)


def test_every_record_fits_into_the_log() -> None:
    names = tuple(f"arm{number}" for number in range(12))
    events: list[Event] = [
        LearningChange(policy=POLICY, time=0.0, settings=LearningSettings(dimension=256)),
        selection("d1", arms=names, models=(), chosen=0, context=bytes(512)),
    ]
    learner = learned(stored(events))
    for arm in learner.policies[POLICY].arms.values():
        for model in arm.models.values():
            noise = np.random.default_rng(1).normal(size=2 * [model.dimension])
            model._ss_arr[:] = noise + noise.T  # does not compress
    records = checkpoint_of(learner)
    assert len(records) > 5
    assert all(len(key) + len(value) < MAX_MESSAGE_BYTES for key, value in records.items())
    [restoration] = restorations(0, TOPIC, records)
    assert dump(resumed(restoration, stored(events))) == dump(learner)


def test_a_policy_without_events_is_not_written_again() -> None:
    writer = CheckpointWriter()
    learner = learned(LOG)
    first = checkpoint_of(learner, writer)
    only_a = traffic(20, first=1000, policies=("default/a",))
    for message in stored(only_a, start=learner.offset):
        learner.apply(message)
    second = checkpoint_of(learner, writer)
    assert any(b"default/b" in key for key in first)
    assert not any(b"default/b" in key for key in second)
    [restoration] = restorations(0, TOPIC, first | second)
    assert dump(resumed(restoration, LOG + stored(only_a, start=len(LOG)))) == dump(learner)


def test_a_half_written_checkpoint_leaves_the_one_before_intact() -> None:
    writer = CheckpointWriter()
    records = checkpoint_of(learned(LOG[:400]), writer)
    for batch in list(writer.records(learned(LOG)))[:-1]:
        records |= dict(batch)
    [restoration] = restorations(0, TOPIC, records)
    assert dump(resumed(restoration, LOG)) == dump(learned(LOG[:400]))


def test_two_owners_do_not_spoil_each_others_checkpoints() -> None:
    old_owner = CheckpointWriter()
    records = checkpoint_of(learned(LOG[:200]), old_owner)
    [restoration] = restorations(0, TOPIC, records)
    new_owner = CheckpointWriter(restoration)
    records |= checkpoint_of(learned(LOG[:500]), new_owner)
    records |= checkpoint_of(learned(LOG[:300]), old_owner)  # it does not know yet
    best, second = restorations(0, TOPIC, records)
    assert dump(resumed(best, LOG)) == dump(learned(LOG[:500]))
    assert dump(resumed(second, LOG)) == dump(learned(LOG[:300]))


def test_a_damaged_checkpoint_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    records = checkpoint_of(learned(LOG[:200]))
    [first] = restorations(0, TOPIC, records)
    newer = checkpoint_of(learned(LOG[:500]), CheckpointWriter(first))
    for key in [key for key in newer if b"default/a" in key]:
        for damaged in (b"", newer[key][:-1] + b"!", zlib.compress(b"{}")):
            [restoration] = restorations(0, TOPIC, records | newer | {key: damaged})
            assert restoration.learner.offset == 200
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    "root",
    [b"", b"\xff", b"[]", b"{}", b'{"format": 1}', b'{"format": %s, "offset": 3}', b'{"format": %s, "offset": null}'],
)
def test_a_damaged_root_is_passed_over(root: bytes) -> None:
    records = checkpoint_of(learned(LOG[:200]))
    key = next(key for key in records if key.count(b"/") == 1)
    ours = json.dumps(json.loads(records[key])["format"]).encode()
    assert list(restorations(0, TOPIC, records | {key: root.replace(b"%s", ours)})) == []


def test_a_checkpoint_of_other_signals_is_learned_anew_from_the_log() -> None:
    records = checkpoint_of(learned(LOG[:200]))
    key = next(key for key in records if key.count(b"/") == 1)
    root = json.loads(records[key])
    other = {**root, "format": [*root["format"], "safety"]}
    assert list(restorations(0, TOPIC, records | {key: json.dumps(other).encode()})) == []
    assert len(list(restorations(0, TOPIC, records))) == 1


def test_another_log_of_the_same_name_is_recognised() -> None:
    [restoration] = restorations(0, TOPIC, checkpoint_of(learned(LOG)))
    other = stored(traffic(300, seed=9, policies=("default/a", "default/b")))
    with pytest.raises(CheckpointError, match="a different log"):
        resumed(restoration, other[: len(LOG)] + LOG[len(other) :])
    [restoration] = restorations(0, TOPIC, checkpoint_of(learned(LOG)))
    with pytest.raises(CheckpointError, match="a different message"):
        restoration.recall(LOG[-1]._replace(time_ms=0))
    with pytest.raises(CheckpointError, match="offset 0"):
        restoration.recall(LOG[0]._replace(value=b"{}"))


def test_decisions_the_log_has_deleted_count_as_closed(caplog: pytest.LogCaptureFixture) -> None:
    learner = learned(LOG)
    [restoration] = restorations(0, TOPIC, checkpoint_of(learner))
    for message in LOG[100:]:
        restoration.recall(message)
    shortened = restoration.finish()
    for policy in learner.policies:
        before, after = learner.snapshot(policy), shortened.snapshot(policy)
        assert after.censored > before.censored
        assert after.censored + after.open_decisions == before.censored + before.open_decisions
        assert after.arms == before.arms
    assert "keep events for longer" in caplog.text


def test_keys_tell_whose_records_they_are() -> None:
    keys = list(checkpoint_of(learned([message._replace(partition=12) for message in LOG], 12)))
    assert all(wants(key, {12}) and not wants(key, {1, 2}) for key in keys)
    assert not wants(b"", {0})
    assert not wants(b"x/0", {0})
    assert not wants("²/0".encode(), {2})


def test_a_checkpoint_holds_numbers_and_names_only() -> None:
    for key, value in checkpoint_of(learned(LOG)).items():
        json.loads(value if key.count(b"/") == 1 else zlib.decompress(value))


def test_a_policy_that_hears_nothing_does_not_hold_the_window_open() -> None:
    writer = CheckpointWriter()
    early = stored([selection("d1", policy="default/idle")])
    learner = learned(early)
    records = checkpoint_of(learner, writer)
    later = [message._replace(time_ms=message.time_ms + 10**9) for message in stored(traffic(30), start=1)]
    for message in later:
        learner.apply(message)
    records |= checkpoint_of(learner, writer)  # the idle policy still has its old part
    [restoration] = restorations(0, TOPIC, records)
    assert restoration.resume_from == 1
    restored = resumed(restoration, early + later)
    assert dump(restored) == dump(learner)
    assert restored.snapshot("default/idle").censored == 1
