"""A request carries the id of its own decision, and never that of another."""

import pytest

from conduit_litellm.litellm_compat.stamps import clear_stamp, earlier_attempt, read_stamp, write_stamp


def test_the_sdk_gets_a_copy_and_the_proxy_its_own_dict():
    shared = {"team": "red"}
    sdk = {"metadata": shared}
    write_stamp(sdk, "d1")
    assert shared == {"team": "red"} and read_stamp(sdk) == "d1"
    proxy = {"metadata": shared, "litellm_logging_obj": object()}
    write_stamp(proxy, "d2")
    assert proxy["metadata"] is shared and read_stamp(proxy) == "d2"


def test_the_bucket_of_the_responses_api_is_used_where_there_is_one():
    request = {"metadata": {"of": "the caller"}, "litellm_metadata": {}}
    write_stamp(request, "d1")
    assert request["metadata"] == {"of": "the caller"} and read_stamp(request) == "d1"


@pytest.mark.parametrize("extra", [{}, {"litellm_logging_obj": object()}])
def test_it_can_be_taken_away(extra):
    request = {"metadata": None, "litellm_metadata": {"a": 1}, **extra}
    clear_stamp(request)
    write_stamp(request, "d1")
    clear_stamp(request)
    assert read_stamp(request) is None and request["litellm_metadata"] == {"a": 1}


def test_a_request_without_metadata_gets_some():
    request = {}
    write_stamp(request, "d1")
    assert request == {"metadata": {"conduit_decision_id": "d1"}}
    assert read_stamp({"metadata": {"conduit_decision_id": 5}}) is None


def test_models_asked_at_the_same_time_are_no_attempts_one_after_the_other():
    kwargs = {"metadata": {"conduit_decision_id": "d1"}, "litellm_logging_obj": object()}
    assert earlier_attempt(kwargs) is None
    assert earlier_attempt(kwargs | {"fallback_depth": 1}) == "d1"
    kwargs["metadata"]["previous_models"] = ["a"]
    assert earlier_attempt(kwargs) == "d1"
    del kwargs["litellm_logging_obj"]
    assert earlier_attempt(kwargs) is None
