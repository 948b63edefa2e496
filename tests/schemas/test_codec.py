import json
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit_schemas import (
    MAX_EVENT_BYTES,
    ArmSnapshot,
    ConfigurationError,
    DeadLetter,
    Event,
    ExplorationRule,
    Feedback,
    InvalidRecordError,
    LearningChange,
    LearningSettings,
    NewerVersionError,
    Outcome,
    RecordError,
    RecordTooLargeError,
    Selection,
    SignalPosterior,
    Snapshot,
    Topics,
    UnknownKindError,
    decode_event,
    decode_snapshot,
    encode,
)
from conduit_schemas.snapshot import content_hash

ids = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1, max_size=40
)
finite = st.floats(0, 1e6, allow_nan=False)


def selection(**changes: Any) -> Selection:
    fields: dict[str, Any] = {
        "policy": "default/chat",
        "time": 1.0,
        "decision_id": "d1",
        "arms": ("a", "b"),
        "chosen": 0,
        "probabilities": (0.5, 0.5),
        "featurizer": "text64-v2",
        "context": bytes(128),
    }
    return Selection(**{**fields, **changes})


def snapshot(**changes: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "policy": "default/chat",
        "partition": 0,
        "offset": 7,
        "stream_time_ms": 1,
        "settings": LearningSettings(),
        "rule": ExplorationRule(name="greedy"),
        "arms": {"a": ArmSnapshot(signals={"quality": posterior()})},
    }
    return Snapshot(**{**fields, **changes})


def posterior(**changes: Any) -> SignalPosterior:
    fields: dict[str, Any] = {
        "mean": bytes(256),
        "precision": struct.pack("<64f", *[1.0] * 64),
        "baseline": 0.5,
        "sigma": 0.1,
        "average": 0.5,
        "weight": 3.0,
    }
    return SignalPosterior(**{**fields, **changes})


events = st.one_of(
    st.builds(selection, policy=ids, decision_id=ids, context=st.binary(max_size=64).map(lambda b: b * 2)),
    st.builds(
        Outcome,
        policy=ids,
        time=finite,
        decision_id=ids,
        status=st.sampled_from(["success", "error", "cancelled", "client_disconnect", "cache_hit"]),
        cost_usd=st.none() | finite,
        latency_s=st.none() | finite,
        output_tokens=st.none() | st.integers(0, 2**40),
    ),
    st.builds(Feedback, policy=ids, time=finite, decision_id=ids, quality=st.floats(0, 1), key=st.text(max_size=9)),
    st.builds(
        LearningChange, policy=ids, time=finite, settings=st.builds(LearningSettings, lambda_reg=st.floats(0.1, 9.0))
    ),
)


@given(events)
def test_any_event_survives_the_wire(event: Event) -> None:
    assert decode_event(encode(event)) == event


@given(events, st.dictionaries(st.text("xyz", min_size=5), st.integers() | st.text() | st.lists(st.booleans())))
def test_fields_of_a_newer_minor_version_survive(event: Event, unknown: dict[str, Any]) -> None:
    record = json.loads(encode(event)) | unknown | {"schema_version": "1.9"}
    again = json.loads(encode(decode_event(json.dumps(record).encode())))
    assert again == record


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_no_bytes_raise_anything_but_a_record_error(data: bytes) -> None:
    for decode in (decode_event, decode_snapshot):
        with pytest.raises(RecordError):
            decode(data)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"kind": "rumour"}, UnknownKindError, "rumour"),
        ({"kind": "rumour", "schema_version": "2.0"}, NewerVersionError, "2.0"),
        ({"schema_version": "2.0"}, NewerVersionError, "upgrade"),
        ({"schema_version": "x"}, InvalidRecordError, "schema_version"),
        ({"schema_version": "0.9"}, InvalidRecordError, "schema_version"),
        ({"time": -1}, InvalidRecordError, "time"),
        ({"policy": ""}, InvalidRecordError, "policy"),
        ({"policy": "a\nb"}, InvalidRecordError, "policy"),
        ({"policy": "x" * 257}, InvalidRecordError, "policy"),
        ({"chosen": 2}, InvalidRecordError, "only 2 arms"),
        ({"chosen": -1}, InvalidRecordError, "chosen"),
        ({"arms": []}, InvalidRecordError, "arms"),
        ({"arms": ["a", "a"]}, InvalidRecordError, "twice"),
        ({"arms": [str(i) for i in range(257)]}, InvalidRecordError, "arms"),
        ({"probabilities": [0.5, 0.4]}, InvalidRecordError, "sum"),
        ({"probabilities": [0.0, 1.0]}, InvalidRecordError, "probability 0"),
        ({"probabilities": [1.0]}, InvalidRecordError, "probabilities"),
        ({"predictions": {"quality": [0.5]}}, InvalidRecordError, "quality"),
        ({"context": "AAA="}, None, ""),
        ({"context": "AAAA"}, InvalidRecordError, "16-bit"),
        ({"context": "not base64!"}, InvalidRecordError, "context"),
    ],
)
def test_a_broken_record_says_what_is_wrong(
    change: dict[str, Any], error: type[RecordError] | None, words: str
) -> None:
    data = json.dumps(json.loads(encode(selection())) | change).encode()
    if error is None:
        assert decode_event(data)
        return
    with pytest.raises(error, match=words):
        decode_event(data)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_must_be_finite(number: str) -> None:
    data = encode(selection(predictions={"quality": (0.5, 0.25)})).replace(b"0.25", number.encode())
    with pytest.raises(InvalidRecordError):
        decode_event(data)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_vectors_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        posterior(mean=struct.pack("<64f", *[0.0] * 63, bad))
    with pytest.raises(ValueError, match="32-bit"):
        posterior(mean=b"abc")


def test_the_largest_finite_vector_is_accepted() -> None:
    largest = struct.pack("<f", 3.4028234e38)
    assert posterior(mean=largest * 1024).mean == largest * 1024


@pytest.mark.parametrize(
    "hostile",
    [
        b"x" * 10_000_000,
        b"[" * 60_000,
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        b'{"kind":"selection","arms":' + b"[" * 50_000,
    ],
    ids=["10 MB", "deep array", "deep object", "deep field"],
)
def test_hostile_records_are_refused_cheaply(hostile: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            decode_event(hostile)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_an_event_too_large_to_send_is_refused_where_it_is_made() -> None:
    with pytest.raises(RecordTooLargeError, match=f"{MAX_EVENT_BYTES:,}"):
        encode(Feedback(policy="p", time=0, decision_id="d", quality=1, details={"text": "x" * MAX_EVENT_BYTES}))


def test_a_snapshot_survives_the_wire_and_proves_its_content() -> None:
    sealed = snapshot().sealed()
    assert decode_snapshot(encode(sealed)) == sealed
    tampered = encode(sealed).replace(b'"offset":7', b'"offset":8')
    with pytest.raises(InvalidRecordError, match="hash"):
        decode_snapshot(tampered)


def test_a_snapshot_of_a_newer_minor_version_keeps_its_hash() -> None:
    newer = Snapshot.model_validate({**snapshot().model_dump(), "schema_version": "1.3", "novelty": [1, 2]}).sealed()
    assert decode_snapshot(encode(newer)).hash == newer.hash


def test_a_snapshot_written_before_a_field_existed_keeps_its_hash() -> None:
    older = json.loads(snapshot().model_dump_json())
    del older["censored"], older["rule"]["revision"]
    older["hash"] = content_hash(json.dumps(older))
    assert decode_snapshot(json.dumps(older).encode()).censored == 0


def test_a_snapshot_of_a_newer_major_version_is_refused() -> None:
    newer = snapshot(schema_version="2.0").sealed()
    with pytest.raises(NewerVersionError):
        decode_snapshot(encode(newer))


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        selection().chosen = 1  # type: ignore[misc]  # the point of the test


def test_propensity_is_unknown_when_litellm_chose() -> None:
    assert selection(probabilities=None, fallback="no_snapshot").propensity is None
    assert selection(chosen=1, probabilities=(0.25, 0.75)).propensity == 0.75


def test_a_dead_letter_holds_any_bytes() -> None:
    letter = DeadLetter(
        topic="t", partition=0, offset=1, time_ms=2, reason="invalid", message="m",
        record_key=b"\xff", record=bytes(range(256)), record_bytes=256,
    )  # fmt: skip
    assert DeadLetter.model_validate_json(encode(letter)) == letter


def test_topic_prefixes_are_checked() -> None:
    assert set(Topics("x").compacted) < set(Topics("x").all)
    with pytest.raises(ConfigurationError, match="prefix"):
        Topics("no spaces")
