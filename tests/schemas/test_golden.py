"""Records of released versions stay readable: never change a golden file, only add new ones."""

import json
from pathlib import Path

import pytest

from conduit_schemas import decode_event, decode_snapshot, encode
from conduit_schemas.documents import documents, main

GOLDEN = Path(__file__).parent / "golden"
CONTRACT = Path(__file__).parents[2] / "docs" / "contract"


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.name)
def test_golden_records_decode_and_keep_every_field(file: Path) -> None:
    data = file.read_bytes()
    record = decode_snapshot(data) if file.name.startswith("snapshot") else decode_event(data)
    written = json.loads(encode(record))
    for name, value in json.loads(data).items():
        assert written[name] == value


def test_every_kind_has_a_golden_record() -> None:
    kinds = {json.loads(file.read_bytes())["kind"] for file in GOLDEN.glob("*.json")}
    assert kinds == {"selection", "outcome", "feedback", "settings", "routing", "snapshot"}


@pytest.mark.parametrize("name", sorted(documents()))
def test_contract_documents_are_fresh(name: str) -> None:
    stale = "docs/contract is stale: run `make generate` and commit the result"
    assert (CONTRACT / name).read_text(encoding="utf-8") == documents()[name], stale


def test_no_contract_document_is_left_over(tmp_path: Path) -> None:
    main(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in CONTRACT.iterdir()}


def test_asyncapi_refers_to_schemas_that_exist() -> None:
    texts = documents()
    asyncapi = json.loads(texts["asyncapi.json"])
    for message in asyncapi["components"]["messages"].values():
        assert message["payload"]["$ref"].removeprefix("./") in texts
    for channel in asyncapi["channels"].values():
        for reference in channel["messages"].values():
            assert reference["$ref"].rpartition("/")[2] in asyncapi["components"]["messages"]
