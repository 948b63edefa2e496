import subprocess
import sys
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conduit_policy import Request, TextFeaturizer, to_fixed_point

featurize = TextFeaturizer()


def user(text: Any, **params: Any) -> Request:
    return Request(messages=[{"role": "user", "content": text}], params=params)


contents = (
    st.none()
    | st.text()
    | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text() | st.none()}) | st.text())
)
messages = st.lists(
    st.fixed_dictionaries({}, optional={"role": st.sampled_from(["user", "system", "assistant"]), "content": contents})
)


@given(messages | st.none(), st.none() | st.text() | st.lists(st.text()), st.dictionaries(st.text(), st.integers()))
def test_any_request_has_a_context(messages: Any, given_input: Any, params: dict[str, Any]) -> None:
    context = featurize(Request(messages, given_input, params))
    assert context.shape == (64,)
    assert context.dtype == np.int16
    assert context[0] == 1024


@pytest.mark.process
def test_the_same_words_give_the_same_context_in_every_process() -> None:
    text = "Prove that 17 is prime, please. def f(x): return x"
    program = (
        "from conduit_policy import Request, TextFeaturizer\n"
        f"request = Request(messages=[{{'role': 'user', 'content': '{text}'}}])\n"
        "print(TextFeaturizer()(request).tobytes().hex())"
    )
    printed = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    }
    assert printed == {featurize(user(text)).tobytes().hex()}


def test_the_version_is_pinned_by_its_output() -> None:
    # If you change what the featurizer computes, change its name: models learned under one name
    # are never fed contexts of another meaning.
    context = featurize(user("Translate to French: the cat sleeps. 12 + 30?", max_tokens=100))
    assert featurize.name == "text64-v2"
    assert sha256(context.tobytes()).hexdigest()[:16] == "7f1287d2942e9df2"


def test_words_have_unit_length_and_ignore_case_and_punctuation() -> None:
    context = featurize(user("The river flows, the RIVER bends.")) / 1024
    assert abs(np.linalg.norm(context[16:56]) - 1.0) < 0.01
    assert not context[56:].any()
    again = featurize(user("the RIVER bends (the river) flows")) / 1024
    np.testing.assert_array_equal(context[16:], again[16:])


def test_texts_about_alike_things_have_alike_contexts() -> None:
    def words(text: str) -> np.ndarray:
        return featurize(user(text))[16:] / 1024

    algebra = words("Solve the quadratic equation for the unknown variable")
    calculus = words("Find the derivative of this polynomial function")
    cooking = words("Suggest a recipe for dinner with chicken and rice")
    assert algebra @ calculus > 0.3 + algebra @ cooking


def test_words_that_are_not_known_are_hashed_by_their_share() -> None:
    known, half, unknown = (
        featurize(user(text))[16:] / 1024
        for text in ("river bank", "river xqzzt", "xqzzt 12345 \u043f\u0440\u0438\u0432\u0435\u0442")
    )
    assert not known[40:].any()
    assert abs(np.linalg.norm(half[:40]) - 1.0) < 0.01 and abs(np.linalg.norm(half[40:]) - 0.5) < 0.01
    assert not unknown[:40].any() and abs(np.linalg.norm(unknown[40:]) - 1.0) < 0.01


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    start = "alpha beta " * 300
    assert (featurize(user(start + "gamma"))[16:] == featurize(user(start + "delta"))[16:]).all()


@pytest.mark.parametrize(
    ("plain", "marked", "component"),
    [
        (user("hello"), user("hello" * 100), 1),
        (user("hello"), Request(messages=[{"content": "x" * 999, "role": "user"}, {"content": "hello"}]), 2),
        (user("hello"), Request(messages=[{"role": "user", "content": "hello"}] * 5), 3),
        (user("hello"), Request(messages=[{"role": "system", "content": "be brief"}, {"content": "hello"}]), 4),
        (user("hello"), user("hello", tools=[{"type": "function"}]), 5),
        (user("hello"), user("hello", response_format={"type": "json_object"}), 6),
        (user("hello"), user("hello", stream=True), 7),
        (user("hello"), user("h3110"), 8),
        (user("hello"), user("HELLO"), 9),
        (user("hello"), user("a+b=c"), 10),
        (user("hello"), user("f(x);"), 11),
        (user("hello"), user("héllo"), 12),
        (user("hello"), user("hel\nlo"), 13),
        (user("hello"), user("hell?"), 14),
        (user("hello"), user("hello", max_tokens=500), 15),
    ],
)
def test_structure_shows_in_its_component(plain: Request, marked: Request, component: int) -> None:
    assert featurize(plain)[component] < featurize(marked)[component]


def test_text_parts_and_embedding_inputs_are_read() -> None:
    words = "a question about rivers"
    parts = [{"type": "image_url", "image_url": {}}, {"type": "text", "text": words}]
    expected = featurize(user(words))[16:]
    for request in (user(parts), Request(input=words), Request(input=[words]), Request(input=[{"content": words}])):
        np.testing.assert_array_equal(featurize(request)[16:], expected)


def test_the_last_user_message_counts() -> None:
    conversation = [
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": "second thought"},
        {"role": "tool", "content": "tool output"},
    ]
    np.testing.assert_array_equal(
        featurize(Request(messages=conversation))[16:], featurize(user("second thought"))[16:]
    )


def test_the_word_memory_is_bounded() -> None:
    featurizer = TextFeaturizer()
    for start in range(0, 60_000, 300):
        word = lambda number: "".join(chr(97 + int(digit)) for digit in str(number))  # noqa: E731  # one use, right below
        featurizer(user(" ".join(word(number) for number in range(start, start + 300))))
    assert len(featurizer._words._rows) <= 50_000
    np.testing.assert_array_equal(featurizer(user("still right")), featurize(user("still right")))


def test_fixed_point_rounds_and_clips() -> None:
    values = np.array([0.00049, 0.0004, -1.0, 31.999, 40.0, -40.0, np.nan, np.inf])
    assert to_fixed_point(values).tolist() == [1, 0, -1024, 32767, 32767, -32768, 0, 32767]
