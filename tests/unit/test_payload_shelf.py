"""Texts go to the shelf and come back, and nothing else is taken for one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stageflow import (
    Contract,
    PayloadOptions,
    PayloadsUnreachableError,
    PayloadTooLargeError,
    PayloadUnreadableError,
    TaskResult,
)
from stageflow.backends.files import FileBlobStore
from stageflow.backends.memory import MemoryBlobStore
from stageflow.contracts.payload import PayloadReference, is_reference, shelved
from stageflow.repositories import PayloadShelf

JOB = "a" * 64
LIMIT = 40


class Anything(Contract):
    """A text of any length."""

    text: str


@given(st.one_of(st.text(min_size=LIMIT - 16, max_size=LIMIT - 6), st.text()))
def test_what_is_stored_is_loaded(text: str) -> None:
    """Whatever its length around the limit; small ones stay as they are, large ones are written, and as references compare."""
    blobs = MemoryBlobStore()
    shelf = PayloadShelf(blobs, PayloadOptions(inline_bytes=LIMIT))
    value = json.dumps({"text": text}, ensure_ascii=False).encode(errors="replace").decode()
    stored = shelf.store(JOB, value, "a text")
    assert is_reference(stored) is (len(value.encode()) > LIMIT)
    assert stored == (stored if is_reference(stored) else value)
    assert shelf.load(stored, "a text") == value
    assert shelf.store(JOB, value, "a text") == shelf.refer(JOB, value, "a text") == stored
    assert blobs.exists("stageflow-payloads", PayloadReference.from_text(stored).name) if is_reference(stored) else True


@given(st.text())
def test_no_value_of_a_contract_is_taken_for_a_reference(text: str) -> None:
    """A stored contract is a JSON object, a reference is a JSON string."""
    try:
        stored = Anything(text=text).to_json()
    except ValueError:
        return
    assert not is_reference(stored)
    forged = PayloadReference(size_bytes=3, sha256="b" * 64, job_id=JOB).to_text()
    assert not is_reference(Anything(text=forged).to_json())


def test_a_reference_is_read_strictly() -> None:
    """Another form, and a name that is not that of job and content, is refused."""
    reference = PayloadReference(size_bytes=3, sha256="b" * 64, job_id=JOB)
    text = reference.to_text()
    assert PayloadReference.from_text(text) == reference
    assert text == f'"stageflow-payload:1:3:{"b" * 64}:{JOB}/{"b" * 64}"'
    assert shelved(parameters=text, result_data="{}", other=None) == {"parameters": text}
    for wrong in (
        text.replace(":1:", ":2:"),
        text.replace(":3:", ":0:"),
        text.replace(JOB, "../.."),
        text[:-2] + 'c"',
        text[:-1],
    ):
        with pytest.raises(ValidationError):
            PayloadReference.from_text(wrong)
        with pytest.raises(PayloadUnreadableError, match="restore the row"):
            PayloadShelf(MemoryBlobStore()).load(wrong, "a text")


def test_a_shelf_without_a_blob_store_says_what_to_do() -> None:
    """A large text is refused, and a reference cannot be loaded."""
    shelf = PayloadShelf(None, PayloadOptions(inline_bytes=LIMIT))
    assert shelf.store(JOB, "x" * LIMIT, "a text") == "x" * LIMIT
    with pytest.raises(PayloadTooLargeError, match="a text: 41 bytes of JSON, at most 40 go into a row"):
        shelf.store(JOB, "x" * (LIMIT + 1), "a text")
    with pytest.raises(PayloadsUnreachableError, match="STAGEFLOW_BLOBS"):
        shelf.load(PayloadReference(size_bytes=3, sha256="b" * 64, job_id=JOB).to_text(), "a text")


def test_a_huge_blob_in_place_of_a_payload_is_not_read_whole(tmp_path: Path) -> None:
    """Reading ends where the reference does."""
    blobs = FileBlobStore(tmp_path)
    shelf = PayloadShelf(blobs, PayloadOptions(inline_bytes=LIMIT))
    stored = shelf.store(JOB, "x" * 100, "a text")
    blobs.write("stageflow-payloads", PayloadReference.from_text(stored).name, b"x" * 20_000_000)
    with pytest.raises(PayloadUnreadableError, match="size or checksum differ"):
        shelf.load(stored, "a text")


def test_references_are_no_part_of_a_records_json() -> None:
    """What is shown of a record did not change."""
    assert "shelved" not in TaskResult.model_json_schema(mode="serialization")["properties"]
