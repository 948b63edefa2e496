"""Every reason that Conduit records has a text for people."""

import ast
import pickle
from pathlib import Path

import pytest

from conduit_schemas import RecordError
from conduit_schemas.reasons import VOCABULARY, Code, DeadLetterReason

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "event_log", "policy", "router_plugin", "learner", "demo")
MEMBERS = [member for codes in VOCABULARY for member in codes]


def subclasses(kind: type) -> list[type]:
    return [kind, *(one for known in kind.__subclasses__() for one in subclasses(known))]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: f"{type(member).__name__}.{member.name}")
def test_every_code_has_one_plain_sentence(member: Code) -> None:
    assert member.about[0].isupper() and member.about.endswith(".") and len(member.about) >= 9
    assert ". " not in member.about and "\n" not in member.about and "|" not in member.about
    assert type(member).sentence(str(member)) == member.about
    assert pickle.loads(pickle.dumps(member)) is member


def test_a_set_without_a_sentence_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        Code("Silent", {"MUTE": ("mute",)})  # type: ignore[call-overload]  # a member without a sentence


@pytest.mark.parametrize("codes", VOCABULARY)
def test_a_code_of_a_newer_version_is_shown_as_it_is(codes: type[Code]) -> None:
    assert codes.known("full_moon") is None
    assert "full_moon" in codes.sentence("full_moon")


def test_every_set_of_the_contract_is_documented() -> None:
    of_the_contract = {kind for kind in subclasses(Code) if kind.__module__ == Code.__module__} - {Code}
    assert of_the_contract == set(VOCABULARY)
    page = (ROOT / "docs/contract/reasons.md").read_text(encoding="utf-8")
    assert [member for member in MEMBERS if f"| `{member}` | {member.about} |" not in page] == []


def test_every_refusal_is_a_reason_with_a_sentence() -> None:
    reasons = [kind.reason for kind in subclasses(RecordError)]
    assert all(isinstance(reason, DeadLetterReason) for reason in reasons)


def test_nothing_is_noted_by_a_text_of_its_own() -> None:
    """The rooms record only members of the enums, so every reason has a sentence."""
    noted = [
        f"{path.relative_to(ROOT)}:{node.value.lineno} {node.arg}={ast.unparse(node.value)}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg in {"fallback", "flags", "reason"}
        if any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node.value))
    ]
    assert noted == []


def test_nothing_is_counted_by_a_sentence() -> None:
    """What is counted by reason is counted by its code, so that the numbers can be read by a program."""
    counted = [
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Subscript)
        for part in ast.walk(node.target.slice)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and " " in part.value
    ]
    assert counted == []
