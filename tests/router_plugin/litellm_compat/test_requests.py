"""What LiteLLM records on a request, as the plugin reads it."""

import pytest

from conduit_litellm.litellm_compat.requests import LiteLLMRequest


def test_a_request_without_arguments_tells_nothing_and_takes_a_stamp_all_the_same() -> None:
    request = LiteLLMRequest(None)
    assert (request.goal, request.user, request.session, request.id, request.traces) == (None, None, None, None, ())
    assert list(request.scopes()) == [] and request.earlier_decision is None
    request.stamp("d1")
    request.clear_stamp()


@pytest.mark.parametrize(
    ("metadata", "goal"),
    [
        ({"conduit": {"objective": "cost"}}, {"objective": "cost"}),
        (
            {"requester_metadata": {"conduit": {"objective": "cost"}}},
            {"objective": "cost"},
        ),  # from a client
        ({"conduit": {"objective": "cost"}, "requester_metadata": {"conduit": {}}}, {"objective": "cost"}),
        ({"requester_metadata": None}, None),
        ("no mapping", None),
    ],
)
def test_where_a_request_says_what_it_wants(metadata: object, goal: object) -> None:
    for bucket in ("metadata", "litellm_metadata"):
        assert LiteLLMRequest({bucket: metadata}).goal == goal


def test_a_request_belongs_to_litellms_trace_and_to_its_callers() -> None:
    request = LiteLLMRequest({"litellm_trace_id": "t1", "litellm_call_id": "c1", "metadata": {"trace_id": "t2"}})
    assert (request.id, sorted(request.traces)) == ("t1", ["t1", "t2"])
    assert LiteLLMRequest({"litellm_call_id": "c1"}).id == "c1"


def test_the_end_user_comes_before_the_owner_of_the_key() -> None:
    metadata = {"user_api_key_user_id": "service"}
    assert (LiteLLMRequest({"metadata": metadata}).user, LiteLLMRequest({"metadata": metadata}).end_user) == (
        "service",
        None,
    )
    assert LiteLLMRequest({"metadata": {**metadata, "user_id": "ada"}}).user == "ada"
    assert LiteLLMRequest({"metadata": metadata, "user": "bob"}).user == "bob"
