"""The learner's decoder agrees with the contract's: it refuses the same records, and reads the same values."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_traffic import traffic

import conduit_schemas as contract
from conduit_learner.core import events
from conduit_learner.core.events import FeedbackEvent, OutcomeEvent, SelectionEvent, decode_event
from conduit_schemas import LearningChange, RecordError, RoutingChange, encode

GOLDEN = Path(__file__).parents[2] / "schemas" / "golden"
KINDS: Mapping[str, Any] = {
    "selection": (SelectionEvent, contract.Selection),
    "outcome": (OutcomeEvent, contract.Outcome),
    "feedback": (FeedbackEvent, contract.Feedback),
}


def contexts(rng: random.Random) -> str:
    """Base64 of lengths, alphabets and paddings that some decoders accept and others do not."""
    data = rng.randbytes(rng.choice([0, 1, 2, 3, 4, 6, 8, 10, 128, 2046, 2048, 2050]))
    text = contract.Selection.model_construct(context=data).model_dump(mode="json", include={"context"})["context"]
    return rng.choice(
        [
            text,
            text.replace("-", "+").replace("_", "/"),
            text.replace("-", "+"),
            text.rstrip("="),
            text + "=",
            text[:-1] + rng.choice("ABQgwx-_+/= \\n"),
            " " + text,
            text[: len(text) // 2] + rng.choice(["=", "\\n", "é", "%"]) + text[len(text) // 2 :],
        ]
    )


TOKENS = [
    *("0", "-0", "-0.0", "1", "2", "-1", "1.0", "0.5", "1e0", "1E0", "0.30000000000000004", "1e-400", "1e309"),
    *("1e22", "123456789012345678901234567890", "9223372036854775807", "9223372036854775808", "18446744073709551616"),
    *("9007199254740993", "9007199254740993.0", "0.1000000000000000055511151231257827", "5e-324", "2.5e-324"),
    *("1" + "0" * 400, "0." + "0" * 400 + "1", "1e+0", "01", "1.", ".5", "+1", "1_0", "0x1", "1000000.0000000001"),
    *("NaN", "Infinity", "-Infinity", "true", "false", "null", "[]", "{}", "[1]", '{"a":1}', '{"a":[1]}', '{"a":null}'),
    *("[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300),
    *('""', '"1"', '"a"', '"\\u0000"', '"\\u001f"', '"\\u007f"', '"\\u0085"', '"a\\n"', '"\\ud800"', '"\\udc00"'),
    *('"\\ud83d\\ude00"', '"\\ude00\\ud83d"', '"é"', '"\U0001f600"', '"\u2028"', '"a b"', '"a\\/b"', '"\\x"', '"\t"'),
    *(f'"{"x" * 256}"', f'"{"x" * 257}"', f'"{"é" * 256}"', f'"{chr(0x1F600) * 256}"', f'"{chr(0x1F600) * 257}"'),
    *('"success"', '"quality"', '"error"', '"nothing"', '["a"]', '["a","b"]', '["a","a"]', '["a",""]', '["a\\n","b"]'),
    *("[0.5,0.5]", "[1,0]", "[0,1]", "[0.5,0.6]", "[0.9999995,0]", "[2,-1]", "[0.5,null]", '["0.5",0.5]'),
    *('{"quality":[1,2]}', '{"quality":[1]}', '{"quality":[1e400,2]}', '{"quality":[-0,-0.0]}', '{"a":[1,2],"a":[1]}'),
    *('{"a":1,"a":2}', '{"a":-0}', '{"a":true}', '{"a":"1"}', '{"a":1e999}', '{"a":12345678901234567890123}', "[[1]]"),
    *("{" + ",".join(f'"{n}":{n}' for n in range(count)) + "}" for count in (16, 17, 32, 33)),
    "{" + ",".join(f'"{n % 32}":{n}' for n in range(40)) + "}",
    *("[" + ",".join(f'"{n}"' for n in range(count)) + "]" for count in (16, 17, 256, 257)),
    *('"1.0"', '"1.7"', '"2.0"', '"0.9"', '"01.0"', '"1"', '"selection"', '"outcome"', '"feedback"', '"settings"'),
]  # fmt: skip

SOUND: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))]
SOUND = [fields for fields in SOUND if fields["kind"] in KINDS] + [json.loads(encode(event)) for event in traffic(30)]
SOUND += [
    {
        **{"kind": "selection", "policy": "default/chat", "time": 1, "decision_id": "d", "featurizer": "f"},
        **{"arms": ["a", "b"], "chosen": 1, "context": "AAQ=", "probabilities": [0.25, 0.75]},
    }
] * 5


def spelled(rng: random.Random, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An event's fields as text, as a careless or malicious sender might write them."""
    pairs = [(json.dumps(name), json.dumps(value, ensure_ascii=rng.random() < 0.5)) for name, value in fields.items()]
    known = [f'"{name}"' for kind in KINDS.values() for name in kind[1].model_fields]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        index = rng.randrange(len(pairs))
        name, value = pairs[index]
        change = rng.randrange(9)
        if change < 4:
            pairs[index] = (name, rng.choice(TOKENS))
        elif change == 4:
            pairs.insert(rng.randrange(len(pairs) + 1), (rng.choice(known), rng.choice(TOKENS)))
        elif change == 5:
            pairs.insert(rng.randrange(len(pairs) + 1), (name, value if rng.random() < 0.3 else rng.choice(TOKENS)))
        elif change == 6 and len(pairs) > 1:
            del pairs[index]
        elif change == 7:
            pairs[index] = ('"context"', f'"{contexts(rng)}"')
        else:
            pairs[index] = (rng.choice(['"kin\\u0064"', '"new_field"', '""', '"Policy"', name]), value)
    if rng.random() < 0.3:
        rng.shuffle(pairs)
    return pairs


def record(rng: random.Random) -> bytes:
    pairs = spelled(rng, rng.choice(SOUND))
    space = rng.choice(["", "", " ", "\n\t"])
    data = bytearray(f"{space}{{{f',{space}'.join(f'{name}:{space}{value}' for name, value in pairs)}}}".encode())
    if rng.random() < 0.15:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([rng.randrange(256), 0x22, 0x5C, 0x2C, 0xC3, 0xFF])
    if rng.random() < 0.02:
        data += rng.choice([b" ", b"}", b"\x00", b"{}", b"\xef\xbb\xbf"])
    return bytes(data)


def verdict(decode: Callable[[bytes], Any], data: bytes) -> tuple[str, ...] | dict[str, str]:
    """The result of decoding a record: every value to the bit, or the error's class and message."""
    try:
        event = decode(data)
    except RecordError as error:
        return type(error).__name__, str(error)
    if isinstance(event, LearningChange | RoutingChange):
        return {"event": repr(event)}
    names = KINDS[event.kind][0].__struct_fields__
    fields = {name: getattr(event, name) for name in names}
    if "context" in fields:
        fields["context"] = bytes(fields["context"])
    return {"kind": event.kind, **{name: repr(value) for name, value in fields.items()}}


def accepted_at_once(data: bytes) -> dict[str, str] | None:
    """What the structs alone make of a record; None if they leave it to the contract."""
    try:
        event = events._decode(data)
        if isinstance(event, SelectionEvent):
            event.context = events._from_text(event.context)
    except ValueError:
        return None
    if not event.is_sound():
        return None
    found = verdict(lambda _: event, data)
    assert isinstance(found, dict)
    return found


def assert_the_same(data: bytes) -> str:
    expected = verdict(contract.decode_event, data)
    assert verdict(decode_event, data) == expected, data
    at_once = accepted_at_once(data)
    if at_once is not None:
        assert at_once == expected, data
        return "at once"
    return "refused" if isinstance(expected, tuple) else "by the contract"


@pytest.mark.parametrize("kind", KINDS)
def test_a_struct_has_the_contracts_fields_and_defaults(kind: str) -> None:
    struct, model = KINDS[kind]
    assert set(struct.__struct_fields__) == model.model_fields.keys() - {"kind"}
    required = {"policy": "p", "time": 0.0, "decision_id": "d"}
    required |= {
        "selection": {"arms": ["a"], "chosen": 0, "featurizer": "f", "context": ""},
        "outcome": {"status": "success"},
        "feedback": {"quality": 1.0},
    }[kind]
    assert assert_the_same(json.dumps({**required, "kind": kind}).encode()) == "at once"


def test_every_event_that_applications_send_is_decoded_at_once() -> None:
    sent = [encode(event) for event in traffic(200)]
    assert Counter(map(assert_the_same, sent)) == {"at once": len(sent)}
    assert all(assert_the_same(path.read_bytes()) for path in GOLDEN.glob("*.json"))


@pytest.mark.parametrize("seed", range(4))
def test_no_spelling_makes_a_difference(seed: int) -> None:
    rng = random.Random(seed)
    outcomes = Counter(assert_the_same(record(rng)) for _ in range(6_000))
    assert min(outcomes["at once"], outcomes["by the contract"], outcomes["refused"]) > 300, outcomes


def test_every_value_in_every_field() -> None:
    rng = random.Random(5)
    kinds: dict[str, dict[str, Any]] = {}
    for fields in SOUND:
        kinds[fields["kind"]] = kinds.get(fields["kind"], {}) | fields
    outcomes: Counter[str] = Counter()
    for fields in (*kinds.values(), SOUND[-1]):
        for name in KINDS[fields["kind"]][1].model_fields:
            for token in [*TOKENS, *(f'"{contexts(rng)}"' for _ in range(20))]:
                pairs = {json.dumps(key): json.dumps(value) for key, value in fields.items()}
                pairs[json.dumps(name)] = token
                outcomes[assert_the_same(f"{{{','.join(f'{k}:{v}' for k, v in pairs.items())}}}".encode())] += 1
    assert min(outcomes.values()) > 50, outcomes


@pytest.mark.parametrize("second", ['"selection"', '"outcome"', '"feedback"', '"settings"', '"x"', "1", "null"])
@pytest.mark.parametrize("name", ['"kind"', '"\\u006bind"'])
def test_a_kind_said_twice(name: str, second: str) -> None:
    for fields in SOUND:
        text = json.dumps(fields, separators=(",", ":"))
        assert_the_same(f"{{{name}:{second},{text[1:]}".encode())
        assert_the_same(f"{text[:-1]},{name}:{second}}}".encode())


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5), st.data()
)
@settings(max_examples=300, deadline=None)
def test_any_json_in_any_field(value: Any, data: st.DataObject) -> None:
    fields = dict(data.draw(st.sampled_from(SOUND)))
    name = data.draw(st.sampled_from(sorted(KINDS[fields["kind"]][1].model_fields)))
    held = fields.get(name)
    fields[name] = [*held[1:], value] if isinstance(held, list) else {"x": value} if isinstance(held, dict) else value
    assert_the_same(json.dumps(fields).encode())


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert_the_same(data)


def test_a_record_that_is_too_large_is_not_even_parsed() -> None:
    data = encode(contract.Feedback(policy="p", time=0.0, decision_id="d", quality=1.0))
    assert assert_the_same(data + b" " * (contract.MAX_EVENT_BYTES - len(data))) == "at once"
    assert verdict(decode_event, data + b" " * contract.MAX_EVENT_BYTES)[0] == "RecordTooLargeError"  # type: ignore[index]
