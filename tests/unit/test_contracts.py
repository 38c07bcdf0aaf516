"""The nouns refuse what they must, and survive a round trip."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, JsonValue, NaiveDatetime, ValidationError

from stageflow import (
    Contract,
    ContractViolationError,
    FailurePolicy,
    InvalidTransitionError,
    InvalidValueError,
    JobExecutionContext,
    JobQueueMessage,
    JobRecord,
    JobStatus,
    OrchestrationAction,
    OrchestrationDataContract,
    PermanentTaskError,
    RetryPolicy,
    StageResultContract,
    StageResultsFormatter,
    StageResultsInvalidError,
    StageResultsMissingError,
    StageStatus,
    StatusValidator,
    TaskDefinition,
    TaskQueueMessage,
    TaskRecord,
    TaskResult,
    TaskStatus,
)
from stageflow.contracts.base import UtcDatetime, canonical_json, checked_json, json_object_text
from stageflow.contracts.ids import make_job_id, make_task_id, parse_task_id, stage_key, validate_job_id, validate_task_id
from stageflow.contracts.json_fields import holds_plain_values
from stageflow.contracts.lease import ClaimRequest, RangeCompletion, Retry
from stageflow.contracts.plan import PlanChunk, PlanDigest
from stageflow.contracts.stage import FailureMode
from stageflow.contracts.status import (
    JOB_TRANSITIONS,
    STAGE_TRANSITIONS,
    TASK_TRANSITIONS,
    TERMINAL_TASK_STATUSES,
    status_from_text,
)
from stageflow.errors import MalformedRowError, PoisonMessageError, TaskCancelledError
from stageflow.worker import WorkerOptions

NOW = datetime(2026, 5, 17, 8, 30, tzinfo=UTC)
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  naive on purpose
JOB = "ab" * 32
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('abc ü"\\'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text("abcü", min_size=1), json_values, max_size=4)


class Request(Contract):
    """Job parameters."""

    n: int = 1
    values: dict[str, Any] = Field(default_factory=dict)


class Number(Contract):
    """Task parameters."""

    index: int


class Texts(Contract):
    """Holds what can be changed inside."""

    words: list[str]


class Plain(Contract):
    """Holds values, and a contract of values."""

    at: UtcDatetime
    mode: FailureMode | None = None
    pair: tuple[int, float] = (0, 0.0)
    number: Number


class Odd(Contract):
    """Holds what its author makes of it."""

    text: Annotated[str, AfterValidator(len)]


class Around(Contract):
    """Holds a contract that can be changed inside."""

    texts: Texts


class Loose(Contract):
    """Fields that take more than JSON holds."""

    anything: dict[str, Any] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    number: int = 0


V = TypeVar("V")


class Moment(Contract):
    """One datetime."""

    at: datetime


class Boxed(Contract, Generic[V]):
    """A field whose type comes later."""

    value: V


class Moments(Contract):
    """Datetimes in all places; ``local`` asks for a naive one."""

    at: datetime
    many: list[datetime] = Field(default_factory=list)
    named: dict[str, datetime] = Field(default_factory=dict)
    optional: datetime | None = None
    local: NaiveDatetime | None = None
    inner: Moment | None = None
    generic: Boxed[datetime] | None = None
    children: list["Moments"] = Field(default_factory=list)


def result(index: int, status: TaskStatus = TaskStatus.COMPLETED, **fields: Any) -> TaskResult:
    """Return a valid task result of stage 1."""
    return TaskResult(
        task_id=make_task_id(JOB, 1, index),
        job_id=JOB,
        stage_number=1,
        task_index=index,
        task_type="t",
        status=status,
        error_details="it broke" if status is TaskStatus.FAILED else None,
        completed_at=NOW,
        **fields,
    )


def job(**fields: Any) -> JobRecord:
    """Return a valid job."""
    return JobRecord(
        **{
            "job_id": JOB,
            "job_type": "t",
            "status": JobStatus.QUEUED,
            "total_stages": 2,
            "parameters": {},
            "created_at": NOW,
            "updated_at": NOW,
            **fields,
        }
    )


class TestContract:
    """Frozen, strict, closed."""

    def test_a_contract_is_frozen(self) -> None:
        """What crossed a boundary cannot change behind it."""
        with pytest.raises(ValidationError, match="frozen"):
            Number(index=1).index = 2  # type: ignore[misc]

    @pytest.mark.parametrize("value", ["1", 1.0, True, None])
    def test_nothing_is_coerced(self, value: object) -> None:
        """A text, a float and a bool are no int."""
        with pytest.raises(ValidationError):
            Number(index=value)  # type: ignore[arg-type]

    def test_an_unknown_field_is_refused(self) -> None:
        """A misspelt field does not vanish."""
        with pytest.raises(ValidationError, match="Extra inputs"):
            Number(index=1, indx=2)  # type: ignore[call-arg]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_nan_and_infinity_are_refused(self, value: float) -> None:
        """JSON cannot express them, neither in a float field nor inside a free value."""
        with pytest.raises(ValidationError):
            RetryPolicy(initial_seconds=value)
        with pytest.raises(InvalidValueError, match=r"NaN|Infinity"):
            Request(values={"x": value}).to_json()
        with pytest.raises(InvalidValueError):
            canonical_json(Request(values={"x": value}))
        with pytest.raises(InvalidValueError):
            json_object_text({"x": value})

    @pytest.mark.parametrize("values", [{"a": "x\0"}, {"a": ["\0"]}, {"\0": 1}])
    def test_nul_is_refused_wherever_it_stands(self, values: dict[str, Any]) -> None:
        """PostgreSQL cannot store it."""
        with pytest.raises(InvalidValueError, match="NUL"):
            Request(values=values).to_json()

    def test_no_way_of_making_a_contract_leads_past_its_validation(self) -> None:
        """model_construct and model_copy validate too, so that what exists is what its annotations say."""
        assert Number.model_construct(index=1) == Number(index=1)
        assert Number(index=1).model_copy(update={"index": 2}) == Number(index=2)
        assert Number(index=1).model_copy() == Number(index=1)
        with pytest.raises(ValidationError, match="valid integer"):
            Number.model_construct(index="x")  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="valid integer"):
            Number(index=1).model_copy(update={"index": "x"})

    def test_what_was_changed_inside_a_contract_after_its_validation_cannot_be_stored(self) -> None:
        """A list in a frozen contract can be changed; what is written is compared with the annotations. No retry cures it."""
        words = Texts(words=["a"])
        words.words.append(3)  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match="cannot be written as JSON") as caught:
            words.to_json()
        assert not RetryPolicy().allows(1, caught.value)

    @pytest.mark.parametrize(
        ("model", "plain"), [(Number, True), (Plain, True), (Texts, False), (Request, False), (Odd, False), (Around, False)]
    )
    def test_only_what_cannot_change_is_written_without_comparing(self, model: type[Contract], *, plain: bool) -> None:
        """Lists, free values, and fields that their author validates or serializes are compared each time."""
        assert holds_plain_values(model.__pydantic_core_schema__) is plain

    def test_words_that_only_look_like_constants_pass(self) -> None:
        """A text that spells NaN or an escaped NUL is a text."""
        text = Request(values={"a": "NaN Infinity \\u0000"}).to_json()
        assert Request.from_json(text).values == {"a": "NaN Infinity \\u0000"}
        assert checked_json(text) == text

    def test_a_lone_surrogate_is_refused(self) -> None:
        """Text that UTF-8 cannot express does not get in."""
        with pytest.raises(ValidationError):
            TaskDefinition(job_id=JOB, job_type="t", task_type="t", stage_number=1, key="\ud800", parameters=Number(index=1))
        with pytest.raises(InvalidValueError):
            json_object_text({"a": "\ud800"})

    @pytest.mark.parametrize("moment", [NAIVE, NOW.astimezone(timezone(timedelta(hours=2)))])
    def test_a_datetime_must_be_aware_and_in_utc(self, moment: datetime) -> None:
        """A naive datetime, or one of another zone, says what to pass instead."""
        with pytest.raises(ValidationError, match="pass"):
            job(created_at=moment)

    @pytest.mark.parametrize(
        "fields",
        [
            {"at": NAIVE},
            {"many": [NAIVE]},
            {"named": {"a": NAIVE}},
            {"optional": NAIVE},
            {"inner": {"at": NAIVE}},
            {"generic": {"value": NAIVE}},
        ],
    )
    def test_a_naive_datetime_is_refused_in_every_field_of_every_contract(self, fields: dict[str, Any]) -> None:
        """Authors' own contracts too, however deep the datetime is; from Python and from JSON."""
        Moments(at=NOW, local=NAIVE)
        with pytest.raises(ValidationError, match="needs a time zone"):
            Moments.from_json(json.dumps({"at": NOW, **fields}, default=datetime.isoformat))
        with pytest.raises(ValidationError, match="needs a time zone"):
            Moments(**{"at": NOW, **fields})

    @pytest.mark.parametrize(
        "fields",
        [
            {"anything": {"at": NOW}},
            {"anything": {"a": {1, 2}}},
            {"anything": {"a": (1, 2)}},
            {"anything": {"a": b"x"}},
            {"anything": {"a": {None: 1}}},
            {"anything": {"a": Number(index=1)}},
            {"counts": {"\ud800": 1}},
            {"anything": {"\ud800": 1}},
            {"number": 10**4300},
        ],
    )
    def test_what_json_would_change_is_refused_where_it_is_written(self, fields: dict[str, Any]) -> None:
        """A value that would come back as another one, keys that pydantic would merge, numbers that nobody can read."""
        with pytest.raises(InvalidValueError):
            Loose(**fields).to_json()

    @given(objects)
    def test_json_in_a_field_of_any_type_comes_back_as_it_was(self, values: dict[str, Any]) -> None:
        """The check refuses nothing that JSON can hold."""
        loose = Loose(anything=values)
        assert Loose.from_json(loose.to_json()) == loose

    @given(objects)
    def test_canonical_json_does_not_depend_on_the_order_of_keys(self, values: dict[str, Any]) -> None:
        """Equal requests have equal text."""
        backwards = dict(reversed(values.items()))
        assert canonical_json(Request(values=values)) == canonical_json(Request(values=backwards))


class TestIds:
    """The same request is the same job."""

    @given(objects, objects)
    def test_equal_requests_have_equal_ids_and_others_do_not(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        """A job id stands for its request."""
        first, second = Request(values=one), Request(values=other)
        assert (make_job_id("t", first) == make_job_id("t", second)) == (canonical_json(first) == canonical_json(second))

    def test_type_and_key_are_part_of_the_id(self) -> None:
        """Another workflow, or another idempotency key, is another job."""
        ids = {make_job_id("a", Request()), make_job_id("b", Request()), make_job_id("a", Request(), "k")}
        assert len(ids) == 3
        assert all(validate_job_id(each) == each for each in ids)

    @pytest.mark.parametrize("job_id", ["", " ", "ab", "AB" * 32, "ab" * 32 + "\n", "zz" * 32])
    def test_other_text_is_no_job_id(self, job_id: str) -> None:
        """Blank, short, upper-case and foreign ids are refused."""
        with pytest.raises(InvalidValueError):
            validate_job_id(job_id)

    @pytest.mark.parametrize("value", [1, None, b"ab"])
    def test_an_id_that_is_no_text_is_a_contract_violation(self, value: Any) -> None:
        """The type is checked before the value."""
        with pytest.raises(TypeError):
            validate_job_id(value)
        with pytest.raises(TypeError):
            validate_task_id(value)

    @given(st.integers(1, 10**6), st.integers(0, 10**9))
    def test_a_task_id_gives_its_parts_back(self, stage: int, index: int) -> None:
        """Nothing of the identity is cut off."""
        assert parse_task_id(validate_task_id(make_task_id(JOB, stage, index))) == (JOB, stage, index)

    @pytest.mark.parametrize("task_id", ["", JOB, f"{JOB}-0-1", f"{JOB}-1-01", f"{JOB}-1"])
    def test_other_text_is_no_task_id(self, task_id: str) -> None:
        """A malformed task id is refused."""
        with pytest.raises(InvalidValueError):
            validate_task_id(task_id)

    def test_a_job_type_must_be_a_name(self) -> None:
        """A job type that would not fit a URL or a queue is refused."""
        with pytest.raises(InvalidValueError, match="job type"):
            make_job_id("Not A Name", Request())

    def test_a_stage_key_is_the_number_as_text(self) -> None:
        """Integers in the domain, text in JSON."""
        assert stage_key(1) == "1"

    @pytest.mark.parametrize("number", ["1", True, 1.0, None])
    def test_what_is_no_stage_number_has_no_key(self, number: Any) -> None:
        """A key that is passed where a number belongs does not work by accident."""
        with pytest.raises(ContractViolationError, match="stage_number must be int"):
            stage_key(number)


class TestTransitions:
    """One table decides."""

    @pytest.mark.parametrize("table", [JOB_TRANSITIONS, STAGE_TRANSITIONS, TASK_TRANSITIONS])
    def test_the_validator_allows_the_table_and_the_same_again(self, table: dict[Any, frozenset[Any]]) -> None:
        """Every pair is decided by the table; the same status again changes nothing."""
        for current, following in table.items():
            for new in table:
                if new == current or new in following:
                    StatusValidator.validate(current, new)
                else:
                    with pytest.raises(InvalidTransitionError, match="cannot become"):
                        StatusValidator.validate(current, new)

    def test_queued_may_fail_and_be_cancelled(self) -> None:
        """A job that never started can still end."""
        assert {JobStatus.FAILED, JobStatus.CANCELLED} <= JOB_TRANSITIONS[JobStatus.QUEUED]

    @pytest.mark.parametrize(
        ("current", "new"),
        [("queued", "failed"), (JobStatus.QUEUED, "failed"), (JobStatus.QUEUED, TaskStatus.PROCESSING), ("queued", "queued")],
    )
    def test_two_statuses_of_one_kind_are_compared_or_nothing(self, current: Any, new: Any) -> None:
        """A text, or the status of something else, that spells the same is not the same."""
        with pytest.raises(ContractViolationError, match="pass the enum"):
            StatusValidator.validate(current, new)
        with pytest.raises(ContractViolationError, match="pass the enum"):
            StatusValidator.may_follow(current, new)
        with pytest.raises(ContractViolationError, match="JobStatus, StageStatus or TaskStatus"):
            StatusValidator.is_terminal("completed")  # type: ignore[arg-type]

    def test_terminal_task_statuses_are_the_four(self) -> None:
        """Completed, failed, skipped and cancelled; the SQL guards are compared with this set."""
        four = {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED}
        assert four == TERMINAL_TASK_STATUSES

    def test_stored_text_becomes_a_status_or_fails(self) -> None:
        """An unknown status names the valid ones."""
        assert status_from_text(JobStatus, "failed") is JobStatus.FAILED
        with pytest.raises(MalformedRowError, match="queued"):
            status_from_text(JobStatus, "done")


class TestRetryPolicy:
    """Arithmetic without a clock."""

    @given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
    def test_a_delay_stays_within_its_bounds(self, attempt: int, draw: float) -> None:
        """Full jitter: between nothing and the capped exponential."""
        policy = RetryPolicy()
        assert 0 <= policy.delay_seconds(attempt, draw) <= min(300.0, 2.0 ** min(attempt - 1, 20))

    def test_without_jitter_the_delay_doubles_up_to_the_cap(self) -> None:
        """Exponential, exactly."""
        policy = RetryPolicy(initial_seconds=1.0, cap_seconds=5.0, jitter=False)
        assert [policy.delay_seconds(attempt, 0.5) for attempt in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]

    def test_bugs_and_permanent_errors_are_never_retried(self) -> None:
        """Another attempt cannot cure them."""
        policy = RetryPolicy()
        assert policy.allows(1, ValueError())
        assert not policy.allows(3, ValueError())
        assert not policy.allows(1, PermanentTaskError())
        assert not policy.allows(1, TaskCancelledError())
        assert not RetryPolicy(retry_on=(KeyError,)).allows(1, ValueError())

    def test_a_cap_below_the_first_delay_is_refused(self) -> None:
        """A policy that contradicts itself does not exist."""
        with pytest.raises(ValidationError, match="raise the cap"):
            RetryPolicy(initial_seconds=10.0, cap_seconds=1.0)


class TestMessages:
    """Identities on the wire."""

    def test_messages_survive_the_wire(self) -> None:
        """What is sent is what is received."""
        task = TaskQueueMessage(job_id=JOB, job_type="t", task_type="u", stage_number=2, first=3, last=9)
        hint = JobQueueMessage(job_id=JOB, job_type="t", stage_number=2)
        assert TaskQueueMessage.from_wire(task.to_wire()) == task
        assert JobQueueMessage.from_wire(hint.to_wire()) == hint

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "not json",
            "[]",
            "{}",
            '{"wire_version":2}',
            f'{{"wire_version":1,"job_id":"{JOB}","job_type":"t","stage_number":"1"}}',
        ],
    )
    def test_a_malformed_message_is_poison(self, text: str) -> None:
        """Not JSON, another version, a text where a number belongs: one error that says where."""
        with pytest.raises(PoisonMessageError):
            JobQueueMessage.from_wire(text)

    def test_an_empty_range_is_refused(self) -> None:
        """A message names at least one task."""
        with pytest.raises(ValidationError, match="holds no task"):
            TaskQueueMessage(job_id=JOB, job_type="t", task_type="u", stage_number=1, first=3, last=3)


class TestTask:
    """A definition goes onward in two ways."""

    def definition(self) -> TaskDefinition[Number]:
        """Return a definition."""
        return TaskDefinition(
            job_id=JOB, job_type="j", task_type="t", stage_number=2, task_index=5, key="a/b", parameters=Number(index=7)
        )

    def test_a_record_maps_every_field(self) -> None:
        """Nothing of the definition is lost."""
        record = self.definition().to_task_record(NOW)
        assert record.model_dump() == {
            "task_id": f"{JOB}-2-5",
            "parent_job_id": JOB,
            "job_type": "j",
            "task_type": "t",
            "status": "queued",
            "stage": 2,
            "task_index": 5,
            "key": "a/b",
            "parameters": {"index": 7},
            "result_data": None,
            "metadata": {},
            "error_details": None,
            "attempt": 1,
            "heartbeat": None,
            "created_at": NOW,
            "updated_at": NOW,
            "retry_count": 0,
        }

    def test_a_message_carries_the_identity_and_no_payload(self) -> None:
        """The database is the truth."""
        message = self.definition().to_queue_message()
        assert (message.job_id, message.stage_number, message.first, message.last) == (JOB, 2, 5, 6)
        assert "index" not in message.to_wire()

    @pytest.mark.parametrize("key", ["", " ", "a\0b"])
    def test_a_key_must_be_visible(self, key: str) -> None:
        """People have to read it."""
        with pytest.raises(ValidationError):
            TaskDefinition(job_id=JOB, job_type="j", task_type="t", stage_number=2, key=key, parameters=Number(index=7))

    def test_a_record_whose_id_disagrees_is_refused(self) -> None:
        """An id names its own parts."""
        record = self.definition().to_task_record(NOW)
        with pytest.raises(ValidationError, match="does not agree"):
            TaskRecord(**{**record.model_dump(exclude={"retry_count"}), "status": TaskStatus.QUEUED, "task_index": 6})

    def test_success_compares_the_enum(self) -> None:
        """Only a completed task succeeded."""
        assert result(0).success
        assert not result(0, TaskStatus.FAILED).success

    def test_a_result_must_have_ended_and_say_why(self) -> None:
        """A processing result, or a failure without a reason, does not exist."""
        with pytest.raises(ValidationError, match="terminal"):
            result(0, TaskStatus.PROCESSING)
        with pytest.raises(ValidationError, match="error_details"):
            TaskResult(
                task_id=make_task_id(JOB, 1, 0),
                job_id=JOB,
                stage_number=1,
                task_index=0,
                task_type="t",
                status=TaskStatus.FAILED,
                completed_at=NOW,
            )
        with pytest.raises(ValidationError, match="completed task result has no error_details"):
            TaskResult(**{**dict(result(0)), "error_details": "none"})

    def test_a_result_whose_id_disagrees_is_refused(self) -> None:
        """A result cannot be booked under another task."""
        with pytest.raises(ValidationError, match="does not agree"):
            TaskResult(**{**dict(result(0)), "task_index": 1})


statuses = st.lists(
    st.sampled_from([TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED]), max_size=6
)


class TestStageResult:
    """Counts, results and stored text agree."""

    @given(statuses, objects)
    def test_what_is_stored_and_read_back_is_equal(self, ended: list[TaskStatus], metadata: dict[str, Any]) -> None:
        """The stored form loses nothing."""
        results = [result(index, status) for index, status in enumerate(ended)]
        contract = StageResultContract.from_task_results(1, results, metadata=metadata, completed_at=NOW)
        stored = StageResultsFormatter.to_stored(contract)
        assert "stage_key" not in stored
        assert StageResultsFormatter.from_stored(1, stored, results) == contract

    @pytest.mark.parametrize(
        ("ended", "status", "rate"),
        [
            ([], StageStatus.COMPLETED, 100.0),
            ([TaskStatus.COMPLETED], StageStatus.COMPLETED, 100.0),
            ([TaskStatus.COMPLETED, TaskStatus.FAILED], StageStatus.COMPLETED_WITH_ERRORS, 50.0),
            ([TaskStatus.FAILED, TaskStatus.FAILED], StageStatus.FAILED, 0.0),
            ([TaskStatus.SKIPPED], StageStatus.SKIPPED, 0.0),
            ([TaskStatus.CANCELLED, TaskStatus.COMPLETED], StageStatus.CANCELLED, 50.0),
        ],
    )
    def test_the_counts_give_the_status(self, ended: list[TaskStatus], status: StageStatus, rate: float) -> None:
        """All failed is failed, some is completed with errors, none is completed, and so is an empty stage."""
        contract = StageResultContract.from_task_results(1, [result(index, each) for index, each in enumerate(ended)])
        assert (contract.status, contract.success_rate) == (status, rate)

    def test_a_dict_entry_has_its_key_and_is_ready_for_json(self) -> None:
        """The key is text, and not repeated inside."""
        key, entry = StageResultContract.from_task_results(1, [result(0)]).as_dict_entry()
        assert key == "1"
        assert "stage_key" not in entry
        assert entry["task_results"][0]["status"] == "completed"  # type: ignore[index,call-overload]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"task_count": 2}, "add up to"),
            ({"success_rate": 50.0}, "counts give"),
            ({"status": StageStatus.PROCESSING}, "terminal"),
            ({"results_paged": True}, "carries no task_results"),
            ({"task_results": []}, "0 task_results"),
            ({"successful_tasks": 0, "failed_tasks": 1, "success_rate": 0.0}, "task_results say"),
            ({"stage_number": 2}, "task_results of stages"),
        ],
    )
    def test_what_disagrees_is_refused(self, changes: dict[str, Any], said: str) -> None:
        """A stage result that contradicts itself does not exist."""
        fields = dict(StageResultContract.from_task_results(1, [result(0)]))
        with pytest.raises(ValidationError, match=said):
            StageResultContract(**{**fields, **changes})

    def test_results_are_those_of_one_job_each_once(self) -> None:
        """A stage's tasks have one result each, and belong to one job."""
        other = TaskResult(**{**dict(result(1)), "job_id": "cd" * 32, "task_id": make_task_id("cd" * 32, 1, 1)})
        with pytest.raises(ValidationError, match="of 2 jobs"):
            StageResultContract.from_task_results(1, [result(0), other])
        with pytest.raises(ValidationError, match=r"tasks \[0\] are there twice"):
            StageResultContract.from_task_results(1, [result(0), result(0)])

    def test_results_are_never_dicts(self) -> None:
        """A dict, a stage number as text, or a number that is a bool is a violation that says where it is."""
        with pytest.raises(ContractViolationError, match=r"task_results\[1\]"):
            StageResultContract.from_task_results(1, [result(0), dict(result(1))])  # type: ignore[list-item]
        for number in ("1", True):
            with pytest.raises(ContractViolationError, match="stage_number"):
                StageResultContract.from_task_results(number, [])  # type: ignore[arg-type]

    def test_malformed_stored_text_names_the_field(self) -> None:
        """A stored result that was altered by hand is a loud error."""
        stored = StageResultsFormatter.to_stored(StageResultContract.from_task_results(1, []))
        with pytest.raises(StageResultsInvalidError, match="task_count"):
            StageResultsFormatter.from_stored(1, stored.replace('"task_count":0', '"task_count":"0"'), [])
        with pytest.raises(StageResultsInvalidError, match="stage_number 1"):
            StageResultsFormatter.from_stored(2, stored, [])


class TestPolicies:
    """When a stage with failures passes."""

    @pytest.mark.parametrize(
        ("policy", "passing"),
        [
            (FailurePolicy.all_must_succeed(), [(4, 4), (0, 0)]),
            (FailurePolicy.any_may_fail(), [(4, 4), (1, 4), (0, 0)]),
            (FailurePolicy.at_least(50), [(4, 4), (2, 4), (0, 0)]),
        ],
    )
    def test_a_policy_passes_what_it_names(self, policy: FailurePolicy, passing: list[tuple[int, int]]) -> None:
        """All, any, or a minimum rate."""
        cases = [(4, 4), (2, 4), (1, 4), (0, 4), (0, 0)]
        expected = set(passing) | ({(2, 4)} if policy.mode is FailureMode.ANY else set())
        assert {case for case in cases if policy.passes(successful=case[0], total=case[1])} == expected

    @pytest.mark.parametrize(
        "fields",
        [
            {"mode": FailureMode.ALL, "minimum_success_rate": 50.0},
            {"mode": FailureMode.RATE},
            {"mode": FailureMode.ANY, "fail_fast": True},
        ],
    )
    def test_a_policy_that_contradicts_itself_is_refused(self, fields: dict[str, Any]) -> None:
        """Fields must fit the mode."""
        with pytest.raises(ValidationError):
            FailurePolicy(**fields)


class TestOrchestration:
    """Fields fit the action."""

    def test_items_are_counted_and_the_older_name_is_read(self) -> None:
        """item_count may be left out; stage_2_parameters is next_stage_parameters."""
        contract = OrchestrationDataContract.model_validate(
            {"action": OrchestrationAction.CREATE_TASKS, "items": [{"a": 1}], "stage_2_parameters": {"b": 2}}
        )
        assert (contract.item_count, contract.next_stage_parameters) == (1, {"b": 2})
        assert OrchestrationDataContract.from_json(contract.to_json()) == contract

    @pytest.mark.parametrize(
        "fields",
        [
            {"action": "EXPLODE"},
            {"action": OrchestrationAction.CREATE_TASKS, "items": [{}], "item_count": 2},
            {"action": OrchestrationAction.SKIP_STAGE, "items": [{}]},
            {"action": OrchestrationAction.PARALLEL_STAGES},
            {"action": OrchestrationAction.PARALLEL_STAGES, "stages": [2, 4]},
            {"action": OrchestrationAction.SKIP_STAGE, "stages": [2]},
            {"action": OrchestrationAction.FAIL_JOB},
            {"action": OrchestrationAction.COMPLETE_JOB, "reason": " "},
        ],
    )
    def test_what_does_not_fit_is_refused(self, fields: dict[str, Any]) -> None:
        """An unknown action, a wrong count, or a field of another action is loud."""
        with pytest.raises(ValidationError):
            OrchestrationDataContract(**fields)


class TestJob:
    """A job and its context."""

    def test_an_int_key_in_stage_results_is_refused(self) -> None:
        """1 is not "1"."""
        contract = StageResultContract.from_task_results(1, [])
        with pytest.raises(ValidationError):
            job(stage_results={1: contract})
        with pytest.raises(ValidationError, match="its key must be"):
            job(stage_results={"2": contract})
        with pytest.raises(ValidationError, match="beyond"):
            job(stage=3)

    def test_a_context_is_extended_and_never_changed(self) -> None:
        """set_stage_result returns a new context; a missing result lists the ones there are."""
        context = JobExecutionContext[Number](job_id=JOB, job_type="t", total_stages=2, parameters=Number(index=1))
        contract = StageResultContract.from_task_results(1, [])
        extended = context.set_stage_result(1, contract)
        assert extended.get_stage_result(1) == contract
        with pytest.raises(StageResultsMissingError, match="stages with a result: none"):
            context.get_stage_result(1)
        with pytest.raises(KeyError):
            extended.get_stage_result(2)
        with pytest.raises(ValidationError):
            extended.set_stage_result(2, contract)
        with pytest.raises(ContractViolationError, match="stage_number must be int"):
            extended.get_stage_result("1")  # type: ignore[arg-type]
        with pytest.raises(ContractViolationError, match="stage_number must be int"):
            extended.set_stage_result("1", contract)  # type: ignore[arg-type]
        with pytest.raises(ValidationError):
            JobExecutionContext[Number](
                job_id=JOB,
                job_type="t",
                total_stages=2,
                parameters=Number(index=1),
                stage_results={1: contract},  # type: ignore[dict-item]
            )


class TestBatches:
    """Parallel lists are parallel."""

    def completion(self, **fields: Any) -> RangeCompletion:
        """Return a report of one completed task."""
        return RangeCompletion(
            **{
                "range_id": 1,
                "token": 1,
                "stage_id": 1,
                "first": 0,
                "statuses": [TaskStatus.COMPLETED],
                "results": ["{}"],
                "errors": [None],
                "seconds": [0.0],
                "completed_at": [NOW.timestamp()],
                **fields,
            }
        )

    def test_a_report_is_consistent(self) -> None:
        """Lists of one length, at least one task, terminal or with its retry."""
        assert self.completion().statuses == [TaskStatus.COMPLETED]
        retry = Retry(task_index=0, delay_seconds=1.0, error_details="x")
        assert self.completion(statuses=[TaskStatus.QUEUED], retries=[retry]).retries == [retry]
        broken: tuple[dict[str, Any], ...] = (
            {"results": []},
            {"statuses": [], "results": [], "errors": [], "seconds": [], "completed_at": []},
            {"statuses": [TaskStatus.QUEUED]},
            {"retries": [retry]},
            {"statuses": [TaskStatus.PROCESSING]},
        )
        for fields in broken:
            with pytest.raises(ValidationError):
                self.completion(**fields)

    def test_a_claim_and_a_chunk_have_parallel_lists(self) -> None:
        """One limit for each work type, one key for each task."""
        with pytest.raises(ValidationError, match="one limit per work type"):
            ClaimRequest(worker_id="w", work_types=["a"], max_tasks=[], max_leases=1, lease_seconds=1.0)
        with pytest.raises(ValidationError, match="one per task"):
            PlanChunk(
                range_id=1, token=1, stage_id=1, first_index=0, parameters=["{}", "{}"], keys=["a"], digest="", final=True
            )

    @given(st.lists(st.text(), max_size=8), st.integers(0, 8))
    def test_a_plan_digest_does_not_depend_on_where_chunks_were_cut(self, texts: list[str], cut: int) -> None:
        """A second planning may cut elsewhere."""
        whole, parts = PlanDigest(), PlanDigest()
        parts.update(texts[:cut])
        assert whole.update(texts) == parts.update(texts[cut:])

    def test_a_worker_beats_often_enough(self) -> None:
        """A lease survives one lost heartbeat."""
        with pytest.raises(ValidationError, match="lower it"):
            WorkerOptions(lease_seconds=10.0, beat_seconds=6.0)
