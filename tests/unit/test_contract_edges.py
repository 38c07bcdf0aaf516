"""Where the contracts' limits lie to the byte, and what those read who crossed one."""

import builtins
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, get_origin

import pytest
from pydantic import BaseModel, Field, NaiveDatetime, PlainSerializer, ValidationError, create_model
from typing_extensions import TypedDict

from stageflow import (
    Contract,
    ContractViolationError,
    InvalidTransitionError,
    InvalidValueError,
    JobStatus,
    PayloadTooLargeError,
    PermanentTaskError,
    RetryPolicy,
    StageResultContract,
    StageResultsFormatter,
    StageResultsInvalidError,
    StageStatus,
    StatusValidator,
    TaskDefinition,
    TaskStatus,
    enforce_contract,
)
from stageflow.contracts.base import (
    INLINE_BYTES,
    UtcDatetime,
    canonical_json,
    checked_json,
    checked_text,
    inline_json,
    json_object_text,
)
from stageflow.contracts.blob import validate_blob_name
from stageflow.contracts.ids import make_job_id, parse_task_id, stage_key, task_work_type, validate_job_id, validate_task_id
from stageflow.contracts.json_fields import WrittenAs, holds_anything, holds_plain_values
from stageflow.contracts.json_text import JSON_BYTES, read_json_object, require_single_keys, require_size, require_storable
from stageflow.contracts.limits import TaskTypeLimit, scope_of
from stageflow.contracts.payload import (
    PayloadOptions,
    PayloadReference,
    is_reference,
    read_object_or_preview,
    shelved_stage_result,
    shelved_stages,
)
from stageflow.contracts.schedule import CatchUp, Firing, NewSchedule
from stageflow.contracts.status import status_from_text
from stageflow.errors import MalformedRowError

NOON = datetime(2026, 5, 17, 12, tzinfo=UTC)
JOB = "ab" * 32
SHA = "c" * 64


class Free(Contract):
    """A field that takes anything."""

    value: Any


class Number(Contract):
    """A field that takes one thing."""

    index: int


class At(Contract):
    """A moment."""

    at: datetime


class Counts(Contract):
    """Free keys, and values that are not."""

    counts: dict[str, int]


class Words(Contract):
    """A list that can be changed."""

    words: list[str]


def _held(kind: Any, moment: datetime) -> Any:
    """Return a value of a kind that holds a moment."""
    match get_origin(kind):
        case builtins.list:
            return [moment]
        case builtins.dict:
            return {"a": moment}
        case builtins.tuple:
            return (moment,)
        case _:
            return moment


def _error_of(model: type[Contract], value: Any) -> str | None:
    """Return why a contract refuses a value; ``None`` where it takes it."""
    try:
        model.from_fields({"at": value})
    except ValidationError as error:
        return str(error)
    return None


def violation(call: Any, *arguments: Any) -> dict[str, Any]:
    """Return what a program can read of the violation that a call raises."""
    with pytest.raises(ContractViolationError) as caught:
        call(*arguments)
    return {"message": str(caught.value), **vars(caught.value)}


class TestViolations:
    """A program reads the same of a violation as a person does."""

    def test_a_status_that_is_none(self) -> None:
        """The parameter, both types, and the value."""
        assert violation(StatusValidator.may_follow, JobStatus.QUEUED, "failed") == {
            "message": "StatusValidator: new_status must be JobStatus, got str: 'failed'; pass the enum, not its text",
            "function": "StatusValidator",
            "parameter": "new_status",
            "expected": "JobStatus",
            "actual": "str",
            "path": "new_status",
            "preview": "'failed'",
        }
        found = violation(StatusValidator.describe_following, "failed")
        assert (found["parameter"], found["path"], found["actual"]) == ("status", "status", "str")
        assert found["expected"] == "JobStatus, StageStatus or TaskStatus"

    def test_an_id_that_is_none(self) -> None:
        """Each check says which it is."""
        assert violation(validate_job_id, 12) == {
            "message": "job_id must be str, got int: 12. Pass the id as text.",
            "function": "validate_job_id",
            "parameter": "job_id",
            "expected": "str",
            "actual": "int",
            "path": "job_id",
            "preview": "12",
        }
        found = violation(parse_task_id, b"x")
        assert (found["function"], found["parameter"], found["actual"]) == ("validate_task_id", "task_id", "bytes")

    def test_a_stage_number_that_is_none(self) -> None:
        """Text belongs into stored JSON alone."""
        found = violation(stage_key, "1")
        assert (found["function"], found["parameter"], found["expected"]) == ("stage_key", "stage_number", "int")
        assert found["message"] == (
            "stage_number must be int, got str: '1'. Stage numbers are integers; only stored JSON has them as text."
        )


class TestStatuses:
    """The words of the table of transitions."""

    def test_a_refusal_names_both_statuses_and_what_may_follow(self) -> None:
        """Sorted, or that nothing does."""
        with pytest.raises(InvalidTransitionError) as caught:
            StatusValidator.validate(StageStatus.PENDING, StageStatus.COMPLETED)
        said = "StageStatus pending cannot become completed; allowed: cancelled, failed, planning, skipped"
        assert str(caught.value) == said
        assert StatusValidator.describe_following(TaskStatus.FAILED) == "nothing, it is terminal"

    @pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
    def test_what_failed_is_resubmitted_or_repaired(self, status: JobStatus) -> None:
        """Both ways are named."""
        assert StatusValidator.describe_following(status) == "queued, by resubmit, or by repair of one of its stages"

    @pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS])
    def test_what_completed_is_repaired_alone(self, status: JobStatus) -> None:
        """With the way to do all of it again."""
        assert StatusValidator.describe_following(status) == (
            "queued, by repair of one of its stages; to do all of the work again, submit it as another job (new_run)"
        )

    def test_a_job_is_revived_by_a_new_run_only(self) -> None:
        """Not by a change of its status; the same again, and what has not ended, pass."""
        StatusValidator.require_no_revival(JobStatus.FAILED, JobStatus.FAILED)
        StatusValidator.require_no_revival(JobStatus.PAUSED, JobStatus.QUEUED)
        with pytest.raises(InvalidTransitionError) as caught:
            StatusValidator.require_no_revival(JobStatus.FAILED, JobStatus.QUEUED)
        assert str(caught.value) == (
            "JobStatus failed becomes queued by resubmit or repair only, which opens a run of its own; use that"
        )

    def test_a_row_with_another_status_names_those_there_are(self) -> None:
        """And what looks for more of the kind."""
        with pytest.raises(MalformedRowError) as caught:
            status_from_text(TaskStatus, "done")
        assert str(caught.value) == (
            "'done' is no TaskStatus; valid: queued, processing, completed, failed, skipped, cancelled; correct the row, or "
            "install the stageflow that wrote it"
        )


class TestIds:
    """What is wrong with an id is shown, not all of it."""

    def test_the_start_of_a_wrong_id_is_shown(self) -> None:
        """Of a megabyte in its place, the first characters."""
        with pytest.raises(InvalidValueError) as caught:
            validate_job_id("x" * 1000)
        assert str(caught.value) == (
            f"job_id must be 64 lower-case hexadecimal digits, got {'x' * 80!r}. Use the job_id that submit returned."
        )
        with pytest.raises(InvalidValueError) as caught:
            validate_task_id("x" * 1000)
        assert str(caught.value) == (
            f"task_id must be <job_id>-<stage>-<index>, got {'x' * 100!r}. Use a task_id that stageflow returned."
        )
        with pytest.raises(InvalidValueError) as caught:
            make_job_id("X" * 1000, Number(index=1))
        assert str(caught.value) == (
            f"job type {'X' * 80!r} must be a lower-case letter, then at most 99 of a-z 0-9 _ . - ; rename the workflow"
        )

    def test_stage_and_index_go_up_to_what_a_column_holds(self) -> None:
        """Both have the same end."""
        largest = 2**31 - 1
        assert parse_task_id(f"{JOB}-{largest}-{largest}") == (JOB, largest, largest)
        for wrong in (f"{JOB}-{largest + 1}-0", f"{JOB}-1-{largest + 1}"):
            with pytest.raises(InvalidValueError, match="task_id must be"):
                parse_task_id(wrong)

    def test_an_id_stays_what_it_was(self) -> None:
        """Another release makes the same id of the same request, or jobs would run twice."""
        framed = b'["copy", "{\\"index\\":7}", "night"]'
        assert make_job_id("copy", Number(index=7), "night") == hashlib.sha256(framed).hexdigest()


class TestSizes:
    """A limit is met exactly, in bytes."""

    @pytest.mark.parametrize("text", ["abcd", b"abcd", "üü"])
    def test_a_text_may_be_as_large_as_the_limit(self, text: str | bytes) -> None:
        """Four bytes fit into four, and not into three."""
        require_size(text, 4, "the text")
        with pytest.raises(PayloadTooLargeError) as caught:
            require_size(text, 3, "the text")
        said = "the text has 4 bytes, at most 3 are read; write the bulk to a blob and pass on its name"
        assert str(caught.value) == said

    def test_bytes_are_counted_where_there_are_as_many_letters_as_fit(self) -> None:
        """Two letters may be four bytes."""
        with pytest.raises(PayloadTooLargeError, match="has 4 bytes, at most 2"):
            require_size("üü", 2, "the text")

    def test_a_row_takes_a_mebibyte_and_no_byte_more(self) -> None:
        """Counted in UTF-8."""
        assert len(inline_json("x" * INLINE_BYTES, "result")) == INLINE_BYTES
        assert len(inline_json("ü" * (INLINE_BYTES // 2), "result")) == INLINE_BYTES // 2
        for text in ("x" * (INLINE_BYTES + 1), "ü" * (INLINE_BYTES // 2) + "x"):
            with pytest.raises(PayloadTooLargeError) as caught:
                inline_json(text, "result")
            assert str(caught.value) == (
                "result: 1048577 bytes of JSON, at most 1048576 are stored; write it to a blob and pass on its name"
            )

    def test_the_longest_number_is_read_again(self) -> None:
        """Python reads 4,300 digits, and no more."""
        longest = "[" + "9" * 4300 + "]"
        assert checked_json(longest) == longest
        with pytest.raises(InvalidValueError) as caught:
            checked_json("[" + "9" * 4301 + "]")
        assert str(caught.value) == ("the payload holds a number of more than 4300 digits, that cannot be read again; use text")
        text = json.dumps(["9" * 4301])
        assert checked_json(text) == text


class TestStorable:
    """What no store can hold is named, with what to do."""

    @pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
    def test_a_text_that_no_store_holds_is_shown_in_part(self, text: str) -> None:
        """Its first forty characters."""
        with pytest.raises(InvalidValueError) as caught:
            checked_text(text + "x" * 100, "key")
        shown = (text + "x" * 100)[:40]
        assert str(caught.value) == f"key holds NUL or a lone surrogate, which no store can hold: {shown!r}; remove it"

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("[NaN]", "NaN"),
            ('{"a": -Infinity}', "-Infinity"),
            ('["a", ["\\u0000"]]', "text with a NUL character"),
            ('{"a": {"\\u0000": 1}}', "text with a NUL character"),
            ('{"a": [1e999]}', "a number that is too large for a float"),
        ],
    )
    def test_json_that_no_store_holds_is_named(self, text: str, what: str) -> None:
        """Wherever it stands."""
        with pytest.raises(InvalidValueError) as caught:
            require_storable(text, "the file")
        assert str(caught.value) == (
            f"the file holds {what}, which no store can hold; replace it by None or text, or leave the field out"
        )

    @pytest.mark.parametrize("text", ['["NaN"]', '{"Infinity": 1}', '["\\\\u0000"]', "[1e100]", "[1.0e+300, null, true]"])
    def test_json_that_looks_like_it_passes(self, text: str) -> None:
        """A word in a text is no number."""
        require_storable(text, "the file")

    def test_a_stored_object_is_called_by_its_name(self) -> None:
        """Whatever is wrong with it, as text and as bytes."""
        assert read_json_object(b'{"a": [1, null]}', "the row") == {"a": [1, None]}
        for text in ('{"a": NaN}', b'{"a": NaN}'):
            with pytest.raises(InvalidValueError, match=r"^the row holds NaN, which no store can hold"):
                read_json_object(text, "the row")
        with pytest.raises(InvalidValueError, match=r"^the row is no JSON object: "):
            read_json_object("[]", "the row")
        with pytest.raises(PayloadTooLargeError, match=r"^the row has 8,388,609 bytes, at most 8,388,608 are read"):
            read_json_object(" " * (JSON_BYTES + 1), "the row")

    def test_json_that_cannot_be_read_is_told_apart(self) -> None:
        """From what cannot be stored."""
        with pytest.raises(InvalidValueError, match=r"^the file cannot be read: .*; correct the JSON$"):
            require_storable('["NaN" 1]', "the file")
        with pytest.raises(InvalidValueError, match=r"^the file is nested too deeply to be read; make the JSON flatter$"):
            require_storable("[" * 100_000 + "NaN", "the file")

    def test_a_key_that_comes_twice_is_named(self) -> None:
        """The one that does, and its start; other JSON, and what is none, passes."""
        with pytest.raises(InvalidValueError) as caught:
            require_single_keys('{"a": 1, "b": {"c": 1, "d": 2, "d": 3}}', "the parameters")
        assert str(caught.value) == "the parameters name the key 'd' twice in one object; keep one of the two"
        long = "k" * 200
        with pytest.raises(InvalidValueError, match=f"'{'k' * 100}' twice"):
            require_single_keys(f'{{"{long}": 1, "{long}": 2}}', "the parameters")
        require_single_keys('{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}', "the parameters")
        require_single_keys("no JSON", "the parameters")
        with pytest.raises(InvalidValueError, match="name the key 'a' twice"):
            require_single_keys('{"a": ' + "1" * 5000 + ', "a": 1}', "the parameters")
        with pytest.raises(
            InvalidValueError, match=r"^the parameters are nested too deeply to be read; make the JSON flatter$"
        ):
            require_single_keys("[" * 100_000, "the parameters")

    def test_a_payload_that_json_cannot_express_says_so(self) -> None:
        """NaN, NUL and surrogates, in values and in keys."""
        with pytest.raises(InvalidValueError) as caught:
            Free(value=[float("nan")]).to_json()
        said = "the payload holds NaN, which JSON cannot express; replace it by None or leave the field out"
        assert str(caught.value) == said
        for value in ({"a": ["\0" + "x" * 100]}, [{"\0" + "x" * 100: 1}]):
            with pytest.raises(InvalidValueError) as caught:
                Free(value=value).to_json()
            shown = "\0" + "x" * 39  # forty characters
            assert str(caught.value) == (
                f"the payload holds text with a NUL character, which PostgreSQL cannot store: {shown!r}; remove it"
            )
        for beyond in ({"\ud800": 1}, {"a": [("\ud800",)]}, {"a": {"\ud800"}}):
            with pytest.raises(
                InvalidValueError,
                match=r"^(the payload holds NUL or a lone surrogate|Free has no canonical JSON: .*surrogates)",
            ):
                canonical_json(Free(value=beyond))

    def test_what_has_no_json_says_what_to_hold_instead(self) -> None:
        """By the name of its contract."""
        words = Words(words=["a"])
        words.words.append(3)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match=r"(?s)^this Words cannot be written as JSON: .*as its annotations say$"):
            words.to_json()
        with pytest.raises(InvalidValueError) as caught:
            Free(value=(1, 2)).to_json()
        assert str(caught.value) == (
            "Free.value would come back as [1, 2] when it is read from JSON again, it is (1, 2); give the field a type of its "
            "own, or hold JSON values only"
        )
        with pytest.raises(
            InvalidValueError, match=r"^Free has no canonical JSON: .*; remove NaN, infinity and lone surrogates"
        ):
            canonical_json(Free(value=float("inf")))
        with pytest.raises(InvalidValueError, match=r"^the object cannot be written as JSON: .*, and make it flat$"):
            json_object_text({"a": float("inf")})
        with pytest.raises(InvalidValueError, match=r"^the object is no JSON object: .*recursion"):
            json_object_text({"a": json.loads("[" * 250 + "]" * 250)})
        with pytest.raises(InvalidValueError, match=r"^this Free could not be read again from JSON: .*; make it flatter"):
            Free(value=json.loads("[" * 250 + "]" * 250)).to_json()

    def test_one_object_has_one_text(self) -> None:
        """Sorted and dense, letters as they are."""
        assert canonical_json(Free(value={"b": "ü", "a": [1, 2]})) == '{"value":{"a":[1,2],"b":"ü"}}'
        assert json_object_text({"b": "ü", "a": [1, 2]}) == '{"b":"ü","a":[1,2]}'
        assert canonical_json(At(at=NOON)) == '{"at":"2026-05-17T12:00:00Z"}'

    def test_a_key_that_utf8_cannot_express_is_refused_where_nothing_is_read_again(self) -> None:
        """It would be stored as another one."""
        assert Counts(counts={"\ufffd": 1}).to_json() == '{"counts":{"\ufffd":1}}'
        with pytest.raises(InvalidValueError, match="lone surrogate"):
            Counts(counts={"\ud800": 1}).to_json()


class TestWriting:
    """What a contract may hold decides how it is written."""

    def test_plain_contracts_are_written_unchecked_and_free_ones_are_read_again(self) -> None:
        """To compare costs more than to write."""
        assert WrittenAs.of(Number.__pydantic_core_schema__) == (False, False)
        assert WrittenAs.of(Words.__pydantic_core_schema__) == ("error", False)
        assert WrittenAs.of(Free.__pydantic_core_schema__) == ("error", True)

    def test_what_is_left_out_of_json_is_not_read_again_and_what_its_author_writes_is_compared(self) -> None:
        """An excluded field may hold anything; a field with a serializer of its own is not known."""

        class Hidden(Contract):
            cache: Any = Field(default=None, exclude=True)

        class HiddenNumber(Contract):
            number: int = Field(default=0, exclude=True)

        class Written(Contract):
            number: Annotated[int, PlainSerializer(str)]

        assert WrittenAs.of(Hidden.__pydantic_core_schema__) == ("error", False)
        assert WrittenAs.of(HiddenNumber.__pydantic_core_schema__) == ("error", False)
        assert WrittenAs.of(Written.__pydantic_core_schema__) == ("error", False)

    def test_anything_is_found_wherever_a_field_holds_it(self) -> None:
        """In a tuple and beside other types."""
        kinds: tuple[Any, ...] = (tuple[int, Any], list[Any] | int, dict[str, Any] | None)
        for kind in kinds:
            made = create_model("Made", __base__=Contract, value=(kind, ...))
            assert holds_anything(made.__pydantic_core_schema__)

    def test_a_foreign_model_inside_is_not_plain(self) -> None:
        """Nobody validated what is in it."""

        class Foreign(BaseModel):
            index: int

        class Holding(Contract):
            foreign: Foreign

        class Holder(Contract):
            number: Number

        assert not holds_plain_values(Holding.__pydantic_core_schema__)
        assert holds_plain_values(Holder.__pydantic_core_schema__)
        assert not holds_anything(Holder.__pydantic_core_schema__)

    def test_a_deep_copy_shares_nothing_and_a_shallow_one_does(self) -> None:
        """As of any pydantic model."""
        words = Words(words=["a"])
        assert words.model_copy().words is words.words
        assert words.model_copy(deep=True).words is not words.words
        assert words.model_copy(deep=True) == words


class TestRetries:
    """When an attempt is the last, and how long it waits."""

    def test_the_last_attempt_is_the_one_that_was_named(self) -> None:
        """And only what is named is tried again."""
        policy = RetryPolicy(max_attempts=2, retry_on=(KeyError,))
        assert policy.allows(1, KeyError())
        assert not policy.allows(2, KeyError())
        assert not policy.allows(1, ValueError())
        assert not RetryPolicy(retry_on=(PermanentTaskError,)).allows(1, PermanentTaskError())

    def test_a_delay_is_drawn_from_the_whole_interval(self) -> None:
        """Times the draw; without jitter the bound itself."""
        policy = RetryPolicy(initial_seconds=2.0, multiplier=3.0, cap_seconds=20.0)
        assert [policy.delay_seconds(attempt, 0.5) for attempt in (1, 2, 3, 4, 1000)] == [1.0, 3.0, 9.0, 10.0, 10.0]
        assert RetryPolicy(multiplier=3.0, jitter=False).delay_seconds(3, 0.1) == 9.0
        assert RetryPolicy(initial_seconds=5.0, cap_seconds=5.0, jitter=False).delay_seconds(9, 0.1) == 5.0


class TestPayloads:
    """What stands in a row's place is shown and read."""

    @pytest.mark.parametrize(
        ("size", "shown"),
        [(1, "1 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (5 * 1024**4, "5120.0 GiB")],
    )
    def test_a_size_is_for_people(self, size: int, shown: str) -> None:
        """In the unit that fits."""
        reference = PayloadReference(size_bytes=size, sha256=SHA, job_id=JOB)
        assert reference.size == shown
        assert reference.to_preview() == {"stageflow-payload": f"{shown} in the blob store, {JOB}/{SHA}"}
        assert read_object_or_preview(reference.to_text(), "the result") == reference.to_preview()

    def test_a_reference_of_another_release_is_shown(self) -> None:
        """As much of it as fits."""
        text = '"stageflow-payload:9:' + "x" * 500
        with pytest.raises(InvalidValueError) as caught:
            read_object_or_preview(text, "the result")
        assert str(caught.value) == f"the result is no reference to a payload that this release can read: {text[:200]}"
        with pytest.raises(InvalidValueError, match=r"^the result is no JSON object: "):
            read_object_or_preview("[]", "the result")
        assert read_object_or_preview('{"a": 1}', "the result") == {"a": 1}

    def test_stage_results_are_found_by_their_stage(self) -> None:
        """Among a job's references."""
        assert not is_reference(None)
        payloads = {shelved_stage_result(12): "r12", "parameters": "p", shelved_stage_result(3): "r3"}
        assert shelved_stages(payloads) == {12: "r12", 3: "r3"}

    def test_the_upper_limit_is_not_below_the_lower_one(self) -> None:
        """They may be the same."""
        assert PayloadOptions(inline_bytes=10, max_bytes=10).max_bytes == 10
        with pytest.raises(ValidationError, match="max_bytes 9 is below inline_bytes 10; raise it"):
            PayloadOptions(inline_bytes=10, max_bytes=9)


class TestScopes:
    """A limit holds for a task type over all versions of its job type."""

    def test_only_tasks_have_a_scope(self) -> None:
        """Planning has none."""
        assert scope_of(task_work_type("copy", 3, "tile")) == "copy/tile"
        assert scope_of("copy/3") is None
        assert scope_of("copy") is None
        assert TaskTypeLimit(job_type="copy", task_type="tile").scope == "copy/tile"


class TestSchedules:
    """What cannot be scheduled is named."""

    def test_a_wrong_argument_is_named_and_shown(self) -> None:
        """And that nothing happened."""
        fields: dict[str, Any] = {
            "name": "nightly",
            "job_type": "copy",
            "parameters": "{}",
            "cron": "0 2 * * *",
            "time_zone": "UTC",
            "catch_up": "one",
            "next_fire_at": NOON,
        }
        assert NewSchedule.checked(**fields).catch_up is CatchUp.ONE
        with pytest.raises(InvalidValueError) as caught:
            NewSchedule.checked(**{**fields, "priority": 5000})
        assert str(caught.value) == (
            "schedule: priority: Input should be less than or equal to 1000, got 5000; nothing was scheduled, "
            "correct the argument"
        )

    def test_a_firing_moves_on(self) -> None:
        """Never to the same time, and never with a last fire time that no job has."""
        later = NOON + timedelta(seconds=1)
        assert Firing(name="n", expected=NOON, next_fire_at=later).jobs == ()
        wrongs: tuple[dict[str, Any], ...] = ({"next_fire_at": NOON}, {"next_fire_at": later, "last_fire_at": NOON})
        for wrong in wrongs:
            with pytest.raises(ValidationError, match="a firing moves from"):
                Firing(name="n", expected=NOON, **wrong)


class TestDatetimes:
    """Every datetime of an author's contract has a time zone, wherever its field holds it."""

    @pytest.mark.parametrize(
        "kind", [datetime, list[datetime], dict[str, datetime], tuple[datetime, ...], datetime | None, list[datetime | None]]
    )
    def test_a_naive_datetime_is_refused_by_a_contract_that_is_made_now(self, kind: Any) -> None:
        """In whatever it is held."""
        made = create_model("Made", __base__=Contract, at=(kind, ...))
        assert "a datetime needs a time zone" in str(_error_of(made, _held(kind, NOON.replace(tzinfo=None))))
        assert _error_of(made, _held(kind, NOON)) is None

    def test_who_asks_for_a_naive_one_gets_it(self) -> None:
        """By the name of pydantic's type; ours of UTC is left as it is."""
        made = create_model("Made", __base__=Contract, local=(NaiveDatetime, ...), at=(UtcDatetime, ...))
        local = NOON.replace(tzinfo=None)
        assert made.from_fields({"local": local, "at": NOON}).model_dump() == {"local": local, "at": NOON}
        elsewhere = NOON.astimezone(timezone(timedelta(hours=2)))
        with pytest.raises(ValidationError, match=r"must be in UTC, got .*; pass value.astimezone\(UTC\)"):
            made.from_fields({"local": local, "at": elsewhere})


class TestBlobNames:
    """A name that is refused says why."""

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("x" * 1025, "it has more than 1024 characters"),
            ("a//b", "it is empty, or has an empty part before, between or after its slashes"),
            ("a/../b", "it has a part that stands for another folder"),
            ("./a", "it has a part that stands for another folder"),
            ("a\\b", "it has a backslash"),
            ("a\x1fb", "it has a control character"),
            ("a\ud800", "it has characters that UTF-8 cannot express"),
        ],
    )
    def test_a_name_that_is_refused_says_why(self, name: str, reason: str) -> None:
        """With its start, and a good one."""
        assert validate_blob_name("x" * 1024) == "x" * 1024
        with pytest.raises(InvalidValueError) as caught:
            validate_blob_name(name)
        assert str(caught.value) == (
            f"the blob name {name[:80]!r} is refused: {reason}; use parts separated by single slashes, such as 'tiles/0-1.bin'"
        )


class TestEnforced:
    """What a function's contract refuses is told to programs too."""

    def test_a_wrong_answer_is_no_parameter(self) -> None:
        """It has none, and says what came."""

        @enforce_contract
        def answer(number: int) -> list[int]:
            return [number, "two"]  # type: ignore[list-item]

        found = violation(answer, 1)
        assert found["function"].endswith("answer")
        assert (found["parameter"], found["expected"], found["actual"], found["preview"]) == (None, "int", "str", "'two'")
        found = violation(answer, "one")
        assert (found["parameter"], found["path"], found["preview"]) == ("number", "number", "'one'")

    def test_a_key_that_a_typed_dict_does_not_have_is_named(self) -> None:
        """Where it is."""

        class Point(TypedDict):
            x: int

        @enforce_contract
        def draw(point: Point) -> None:
            del point

        found = violation(draw, {"x": 1, "y": 2})
        assert found["path"] == "point"
        assert "'y' is not one of its keys" in found["message"]


class TestStages:
    """A stored stage result is text that every store holds, and its fields are named."""

    def test_a_field_inside_is_named_by_its_path(self) -> None:
        """From the outside in, with dots."""
        stored = StageResultsFormatter.to_stored(StageResultContract.from_task_results(1, [], completed_at=NOON))
        fields = json.loads(stored)
        fields["orchestration"] = {"action": "SKIP_STAGE", "items": [1]}
        with pytest.raises(StageResultsInvalidError, match=r"orchestration\.items\.0"):
            StageResultsFormatter.from_stored(1, json.dumps(fields), [])

    def test_a_surrogate_in_metadata_is_refused(self) -> None:
        """Also where it is a key, which would be stored as another one."""
        result = StageResultContract.from_task_results(1, [], metadata={"a\ud800": 1}, completed_at=NOON)
        with pytest.raises(InvalidValueError, match="lone surrogate"):
            StageResultsFormatter.to_stored(result)

    def test_parameters_in_a_record_are_json(self) -> None:
        """A datetime is a text there."""
        definition = TaskDefinition(job_id=JOB, job_type="j", task_type="t", stage_number=1, key="a", parameters=At(at=NOON))
        assert definition.to_task_record(NOON).parameters == {"at": "2026-05-17T12:00:00Z"}
