"""Answers in all forms in which LiteLLM reports them."""

from types import SimpleNamespace

from conduit_litellm.litellm_compat.responses import answer_of

JSON = {"type": "json_object"}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def test_a_key_that_asks_for_many_people_is_not_one_person() -> None:
    chat = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}

    def asked_by(**metadata: str) -> str | None:
        found = answer_of({"messages": [], "litellm_params": {"metadata": metadata}}, chat, None, None)
        assert found is not None
        return found.asked_by

    assert asked_by(user_api_key_user_id="service") is None
    assert asked_by(user_api_key_user_id="service", user_api_key_end_user_id="ada") == "ada"
    assert asked_by(user_api_key_end_user_id="ada", session_id="s1") == "s1"


def test_answers_are_understood_in_all_their_shapes() -> None:
    message = SimpleNamespace(content="hi", tool_calls=None)
    chat = SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="length")])
    found = answer_of({"messages": [], "user": "ada", "optional_params": {"response_format": JSON}}, chat, None, None)
    assert found is not None
    assert (found.text, found.finish_reason, found.asked_by, found.wants_json) == ("hi", "length", "ada", True)
    parts = {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]}
    output = [{"type": "reasoning"}, parts]
    text = {"format": {"type": "json_schema", "schema": SCHEMA}}
    found = answer_of({"input": "?", "text": text}, {"output": output, "status": "completed"}, None, None)
    assert found is not None and (found.text, found.has_tool_calls, found.json_schema) == ("ab", False, SCHEMA)
    found = answer_of({}, {"output": [{"type": "function_call"}], "status": "incomplete"}, None, None)
    assert found is not None and (found.text, found.has_tool_calls, found.finish_reason) == ("", True, "length")
    assert answer_of({}, {"data": [{"embedding": [0.0]}]}, None, None) is None
    assert answer_of({}, {"choices": [{"text": "old completions"}]}, None, None) is None
