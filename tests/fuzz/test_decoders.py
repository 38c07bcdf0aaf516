"""Whatever comes from a queue, a row, a file or the command line is understood or refused by name, and nothing else."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import main
from benchmarks.fuzz.campaign import Tally, decoders
from benchmarks.fuzz.decoder import Decoder
from stageflow import Contract
from stageflow.backends.files import FileBlobStore
from stageflow.backends.postgres import rows
from stageflow.cli.parameters import decode_parameters
from stageflow.contracts.base import JsonObject, canonical_json, json_object_text
from stageflow.contracts.ids import parse_task_id
from stageflow.contracts.message import JobQueueMessage
from stageflow.contracts.payload import read_object_or_preview
from stageflow.contracts.plan import PlanDigest
from stageflow.contracts.queue import ReceivedMessage
from stageflow.contracts.stage_result import StageResultsFormatter
from stageflow.engine.messages import decode_message
from stageflow.errors import (
    BlobError,
    InvalidValueError,
    PayloadTooLargeError,
    PoisonMessageError,
    StageflowError,
    StageResultsInvalidError,
)

INPUTS = 300
JOB = {"job_id": "a" * 64, "job_type": "tiles", "stage_number": 1, "kind": "job"}


class Order(Contract):
    """Parameters that may hold anything."""

    given: JsonObject


def _received(body: bytes) -> ReceivedMessage:
    return ReceivedMessage(
        queue="jobs", message_id="1", body=body, receipt="r", delivery_count=1, inserted_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


def _nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("decoder", decoders(), ids=lambda decoder: decoder.name)
def test_no_decoder_crashes_or_accepts_what_it_should_not(decoder: Decoder) -> None:
    """Every input is refused by an error of ours, or gives what an independent reading gives; some are accepted."""
    tally = Tally(decoder)
    rng = random.Random(f"tests/{decoder.name}")  # noqa: S311  inputs that can be made again
    for _ in range(INPUTS):
        tally.attack(decoder.make(rng))
    assert (tally.crashed, tally.wrongly_accepted) == (0, 0), tally.examples
    assert tally.accepted > 0
    assert tally.refused > 0 or decoder.name == "message.transport"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_poison(body: bytes) -> None:
    """A queue may deliver anything."""
    with pytest.raises(PoisonMessageError):
        decode_message(_received(body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_parameters_accept_can_be_stored_and_read_again(value: Any) -> None:
    """Between the command line and the database nothing changes."""
    try:
        parameters = decode_parameters(Order, json.dumps({"given": value}))
    except StageflowError:
        return
    assert Order.from_json(parameters.to_json()) == parameters
    assert parameters.given == value


@pytest.mark.parametrize("depth", [250, 1_000, 200_000])
def test_deep_json_is_refused_by_every_decoder(depth: int) -> None:
    """Brackets cost their sender more than us: no decoder overflows the stack."""
    for text in ("[" * depth, '{"given":' + "[" * depth + "]" * depth + "}", '{"a":' * depth):
        with pytest.raises(PoisonMessageError):
            decode_message(_received(text.encode()))
        with pytest.raises(InvalidValueError):
            decode_parameters(Order, text)
        with pytest.raises(InvalidValueError):
            rows.json_object(text)
        with pytest.raises(InvalidValueError):
            read_object_or_preview(text, "the row")
        with pytest.raises(StageResultsInvalidError):
            StageResultsFormatter.from_stored(1, text, None)


def test_huge_json_is_refused_before_it_is_parsed() -> None:
    """Fifty megabytes are counted, not read; parsing them took up to half a minute."""
    text = '{"given":{"a":[' + "1," * 25_000_000 + "1]}}"
    with pytest.raises(PoisonMessageError, match="at most 65,536 are read"):
        decode_message(_received(text.encode()))
    with pytest.raises(PayloadTooLargeError, match="at most 8,388,608 are read"):
        decode_parameters(Order, text)
    with pytest.raises(PayloadTooLargeError):
        rows.json_object(text)
    with pytest.raises(StageResultsInvalidError, match="are read"):
        StageResultsFormatter.from_stored(1, text, None)


@pytest.mark.parametrize("depth", [250, 700, 1_100, 100_000])
def test_what_could_not_be_read_again_is_not_written(depth: int) -> None:
    """A result nested more deeply than the reader reads would have been stored, and its job damaged."""
    with pytest.raises(InvalidValueError, match=r"nest|deep|flat|recursion"):
        json_object_text({"a": _nested(depth)})

    class Loose(Contract):
        value: Any

    with pytest.raises(InvalidValueError, match=r"flatter|depth"):
        Loose(value=_nested(depth)).to_json()
    if depth > 500:
        with pytest.raises(InvalidValueError, match="nest less"):
            canonical_json(Loose(value=_nested(depth)))


@pytest.mark.parametrize(
    "spoiled",
    [
        json.dumps(JOB)[:-1] + ', "job_id": "' + "b" * 64 + '"}',
        json.dumps(JOB | {"wire_version": True}),
        json.dumps(JOB | {"wire_version": 1.0}),
        json.dumps(JOB | {"stage_number": 2**31}),
        json.dumps(JOB | {"run": 10**30}),
    ],
)
def test_a_message_that_two_readers_would_read_differently_is_poison(spoiled: str) -> None:
    """A key that comes twice, ``true`` for 1, and numbers that no store can hold reach no claim."""
    assert decode_message(_received(json.dumps(JOB).encode()))
    with pytest.raises(PoisonMessageError):
        decode_message(_received(spoiled.encode()))
    with pytest.raises(PoisonMessageError):
        JobQueueMessage.from_wire(spoiled)


@pytest.mark.parametrize("spelling", ["NaN", "-Infinity", "1e999", '"\\u0000"', "1" * 400 + ".0"])
def test_parameters_and_rows_refuse_what_no_store_can_hold(spelling: str) -> None:
    """It is refused where it is read, and named."""
    text = '{"given": {"a": ' + spelling + "}}"
    with pytest.raises(InvalidValueError, match="which no store can hold"):
        decode_parameters(Order, text)
    with pytest.raises(InvalidValueError, match="which no store can hold"):
        read_object_or_preview(text, "the parameters")


def test_a_task_id_has_numbers_that_a_task_can_have() -> None:
    """Five thousand digits were a crash, not an id."""
    assert parse_task_id(f"{'a' * 64}-1-2147483647")[2] == 2**31 - 1
    for number in ("2147483648", "1" * 5000):
        with pytest.raises(InvalidValueError, match="task_id must be"):
            parse_task_id(f"{'a' * 64}-1-{number}")


def test_a_damaged_type_beside_a_blob_names_the_file(tmp_path: Path) -> None:
    """Who finds a torn file reads which to remove, and the blob is whole again."""
    blobs = FileBlobStore(tmp_path)
    blobs.write("tiles", "a.bin", b"x", content_type="text/x-own")
    (kept,) = [path for path in (tmp_path / ".stageflow").rglob("*") if path.is_file()]
    kept.write_bytes(kept.read_bytes()[:9])
    with pytest.raises(BlobError, match=f"{kept}.*remove it"):
        blobs.properties("tiles", "a.bin")
    kept.unlink()
    assert blobs.properties("tiles", "a.bin").size_bytes == 1


@given(st.lists(st.text(), max_size=8), st.data())
def test_a_plan_has_one_digest_however_it_is_cut_and_another_where_it_differs(texts: list[str], data: st.DataObject) -> None:
    """The digest tells plans apart that would look alike without the lengths."""
    texts = [text.encode(errors="replace").decode() for text in texts]
    cut = data.draw(st.integers(0, len(texts)))
    whole, parts, other = PlanDigest(), PlanDigest(), PlanDigest()
    digest = whole.update(texts)
    parts.update(texts[:cut])
    assert parts.update(texts[cut:]) == digest
    if len(texts) > 1:
        assert other.update(["".join(texts[:2]), *texts[2:]]) != digest


def test_the_campaign_counts_and_fails_where_a_decoder_does(capsys: pytest.CaptureFixture[str]) -> None:
    """One line of JSON says what every decoder did."""
    main(["fuzz", "--inputs", "2000"])
    line = json.loads(capsys.readouterr().out)
    assert line["name"] == "fuzz"
    assert set(line["details"]) == {decoder.name for decoder in decoders()}
    tally = Tally(Decoder("broken", lambda rng: rng, lambda given: given, lambda given: given + 1, lambda value: value))
    tally.attack(1)
    assert (tally.wrongly_accepted, tally.failed) == (1, True)
