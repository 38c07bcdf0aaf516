"""Jobs: created once, read back whole, listed and updated."""

from datetime import timedelta

import pytest

from stageflow.contracts.job import JobRecord, JobUpdate
from stageflow.contracts.lease import ClaimOutcome
from stageflow.contracts.status import JobStatus, StageStatus
from stageflow.errors import IdempotencyConflictError
from stageflow.testing.conformance.builders import (
    MovableStore,
    ask,
    cancel,
    claim_all,
    claim_plan,
    control_type,
    create,
    job_id_of,
    new_job,
    new_stage,
)
from stageflow.testing.conformance.looking import get_job, get_stage, get_status
from stageflow.testing.conformance.scenario import StoreScenarios


def _list_ids(store: MovableStore, *, limit: int = 100, after: JobRecord | None = None) -> list[str]:
    position = None if after is None else (after.created_at, after.job_id)
    jobs = store.list_jobs(status=None, job_type=None, id_prefix="", limit=limit, after=position)
    return [job.job_id for job in jobs]


class JobConformance(StoreScenarios):
    """Creating, reading, listing and updating jobs."""

    def test_a_created_job_reads_back_with_every_field(self, store: MovableStore) -> None:
        """What was submitted is what is stored, and the job begins queued, in its first stage and run."""
        before = store.now()
        due = before + timedelta(seconds=60)
        new = new_job("whole", version=3, stages=2, priority=7, not_before=due, idempotency_key="key")
        create(store, new)
        job = get_job(store, new)
        assert (job.job_id, job.job_type, job.workflow_version) == (new.job_id, new.job_type, 3)
        assert (job.status, job.run, job.stage, job.total_stages) == (JobStatus.QUEUED, 1, 1, 2)
        assert (job.parameters, job.metadata) == ({"name": "whole"}, {"made_by": "conformance"})
        assert (job.idempotency_key, job.priority, job.not_before) == ("key", 7, due)
        assert (job.stage_results, job.result_data, job.error_details) == ({}, None, None)
        assert before <= job.created_at == job.updated_at <= store.now()

    def test_a_created_job_has_its_first_stage_waiting_to_be_planned(self, store: MovableStore) -> None:
        """A job is created together with its first stage, so nothing can be between the two."""
        new = new_job(first_stage=new_stage(1, task_type="tile", group=(1, 1)))
        create(store, new)
        stage = get_stage(store, new)
        assert (stage.job_id, stage.run, stage.stage_number, stage.generation) == (new.job_id, 1, 1, 1)
        assert (stage.name, stage.task_type, stage.status) == ("stage 1", "tile", StageStatus.PENDING)
        assert (stage.task_count, stage.remaining, stage.halted, stage.plan_digest) == (0, 0, False, "")
        assert (stage.group_first, stage.group_last, stage.stored_result) == (1, 1, None)
        assert store.get_stage(stage.stage_id) == stage

    def test_an_unknown_stage_is_none(self, store: MovableStore) -> None:
        """What is not there is told apart from what is."""
        assert store.get_stage(987_654) is None

    def test_the_second_creation_of_a_job_changes_nothing(self, store: MovableStore) -> None:
        """The same request again is answered, not repeated."""
        create(store, new_job(priority=1))
        before = get_job(store, new_job())
        store.move_clock(5)
        assert store.create_jobs([new_job(priority=9, stages=4)]).created == [False]
        assert get_job(store, new_job()) == before
        assert len(claim_all(store, control_type(new_job()))) == 1

    def test_an_ended_job_is_not_created_again(self, store: MovableStore) -> None:
        """A job that has ended keeps its id; running it again is a resubmission, not a creation."""
        create(store, new_job())
        cancel(store, new_job())
        assert store.create_jobs([new_job()]).created == [False]
        assert get_status(store, new_job()) is JobStatus.CANCELLED

    def test_a_duplicate_within_one_call_is_created_once(self, store: MovableStore) -> None:
        """Of two equal jobs in one call the first is created and the second is told that it exists."""
        jobs = [new_job("a"), new_job("b"), new_job("a"), new_job("a")]
        assert store.create_jobs(jobs).created == [True, True, False, False]
        assert len(claim_all(store, control_type(jobs[0]))) == 2

    def test_creating_no_job_is_answered_with_nothing(self, store: MovableStore) -> None:
        """An empty call is a call."""
        assert store.create_jobs([]).created == []

    def test_many_jobs_are_created_in_one_call(self, store: MovableStore) -> None:
        """The bulk call creates every job, answers in the order asked, and makes each claimable."""
        create(store, new_job("17"))
        jobs = [new_job(str(number)) for number in range(500)]
        assert store.create_jobs(jobs).created == [number != 17 for number in range(500)]
        leases = claim_all(store, control_type(jobs[0]), max_leases=1000)
        assert {lease.job_id for lease in leases} == {job.job_id for job in jobs}
        assert len(leases) == 500

    def test_a_taken_idempotency_key_creates_nothing_at_all(self, store: MovableStore) -> None:
        """One key stands for one request; a call that breaks this leaves none of its jobs behind."""
        create(store, new_job("first", idempotency_key="key"))
        with pytest.raises(IdempotencyConflictError, match="key"):
            store.create_jobs([new_job("innocent"), new_job("second", idempotency_key="key")])
        assert _list_ids(store) == [job_id_of("first")]
        assert len(claim_all(store, control_type(new_job()))) == 1

    def test_two_jobs_of_one_call_cannot_share_an_idempotency_key(self, store: MovableStore) -> None:
        """The rule holds within a call as it does between calls."""
        with pytest.raises(IdempotencyConflictError) as caught:
            store.create_jobs([new_job("one", idempotency_key="key"), new_job("two", idempotency_key="key")])
        assert _list_ids(store) == []
        assert str(caught.value) == _conflict("key", "one", "two")

    def test_every_store_says_in_the_same_words_that_a_key_is_taken(self, store: MovableStore) -> None:
        """The error names the key, who holds it, who asked, and what to do; the first conflict in the order asked is told."""
        create(store, new_job("first", idempotency_key="it's"), new_job("other", idempotency_key="50% off"))
        asked = [
            new_job("innocent", idempotency_key="free"),
            new_job("first", idempotency_key="it's"),
            new_job("third", idempotency_key="50% off"),
            new_job("second", idempotency_key="it's"),
        ]
        with pytest.raises(IdempotencyConflictError) as caught:
            store.create_jobs(asked)
        assert str(caught.value) == _conflict("50% off", "other", "third")

    def test_the_same_job_with_its_own_idempotency_key_is_no_conflict(self, store: MovableStore) -> None:
        """A repeated request with its key is the same request."""
        job = new_job(idempotency_key="key")
        assert store.create_jobs([job, job]).created == [True, False]
        assert store.create_jobs([job]).created == [False]

    def test_an_idempotency_key_counts_within_its_job_type_only(self, store: MovableStore) -> None:
        """Keys of different workflows cannot collide, and no key is no key."""
        create(store, new_job("a", idempotency_key="key"), new_job("b", job_type="other", idempotency_key="key"))
        create(store, new_job("c"), new_job("d"))
        assert len(_list_ids(store)) == 4

    def test_a_job_does_not_start_before_its_time(self, store: MovableStore) -> None:
        """A delayed job is not claimed early, and the claim says how long to wait."""
        job = new_job(not_before=store.now() + timedelta(seconds=60))
        create(store, job)
        early = ask(store, control_type(job))
        assert (early.outcome, early.leases) == (ClaimOutcome.EMPTY, [])
        assert early.next_due_seconds is not None
        assert 40 < early.next_due_seconds <= 60
        store.move_clock(61)
        claim_plan(store, job)

    def test_a_job_whose_time_has_passed_starts_at_once(self, store: MovableStore) -> None:
        """A time in the past delays nothing."""
        job = new_job(not_before=store.now() - timedelta(seconds=5))
        create(store, job)
        claim_plan(store, job)

    def test_a_job_becomes_processing_when_its_planning_is_claimed(self, store: MovableStore) -> None:
        """A job is queued exactly until somebody works on it."""
        create(store, new_job())
        claim_plan(store, new_job())
        assert get_status(store, new_job()) is JobStatus.PROCESSING
        assert get_stage(store, new_job()).status is StageStatus.PLANNING

    def test_get_jobs_returns_those_that_exist(self, store: MovableStore) -> None:
        """An unknown id is left out and costs the others nothing."""
        create(store, new_job("a"), new_job("b"))
        found = store.get_jobs([job_id_of("b"), job_id_of("nobody"), job_id_of("a")])
        assert {job.job_id for job in found} == {job_id_of("a"), job_id_of("b")}
        assert store.get_jobs([]) == []

    def test_jobs_are_listed_newest_first_and_page_by_page(self, store: MovableStore) -> None:
        """Paging by position shows each job once, also those created in the same instant."""
        names = [str(number) for number in range(7)]
        create(store, new_job("old"))
        store.move_clock(10)
        create(store, *[new_job(name) for name in names])
        store.move_clock(10)
        create(store, new_job("young"))
        middle = sorted((job_id_of(name) for name in names), reverse=True)
        expected = [job_id_of("young"), *middle, job_id_of("old")]
        assert _list_ids(store) == expected
        seen: list[str] = []
        last: JobRecord | None = None
        while page := _list_ids(store, limit=2, after=last):
            seen += page
            last = store.get_jobs([page[-1]])[0]
        assert seen == expected

    def test_jobs_are_listed_by_status_type_and_prefix(self, store: MovableStore) -> None:
        """Each filter narrows the list, and they narrow it together."""
        create(store, new_job("a"), new_job("b"), new_job("c", job_type="other"))
        cancel(store, new_job("b"))

        def ids(status: JobStatus | None, job_type: str | None, prefix: str) -> set[str]:
            found = store.list_jobs(status=status, job_type=job_type, id_prefix=prefix, limit=10, after=None)
            return {job.job_id for job in found}

        assert ids(JobStatus.CANCELLED, None, "") == {job_id_of("b")}
        assert ids(None, "demo", "") == {job_id_of("a"), job_id_of("b")}
        assert ids(None, None, job_id_of("c")[:12]) == {job_id_of("c")}
        assert ids(JobStatus.QUEUED, "demo", "") == {job_id_of("a")}
        assert ids(JobStatus.QUEUED, "demo", job_id_of("c")) == set()

    def test_a_prefix_is_text_and_no_pattern(self, store: MovableStore) -> None:
        """Characters that mean something to SQL mean nothing in a prefix."""
        create(store, new_job("a"))
        for prefix in ("%", "_", "\\", "'"):
            assert store.list_jobs(status=None, job_type=None, id_prefix=prefix, limit=10, after=None) == []

    def test_an_update_changes_the_given_fields_only(self, store: MovableStore) -> None:
        """``None`` leaves a field alone, and the time of the change is noted."""
        create(store, new_job())
        before = get_job(store, new_job())
        store.move_clock(3)
        assert store.update_job(new_job().job_id, JobUpdate(result_data={"sum": 6}))
        assert store.update_job(new_job().job_id, JobUpdate(metadata={"colour": "grün"}, error_details="late"))
        after = get_job(store, new_job())
        assert (after.result_data, after.metadata, after.error_details) == ({"sum": 6}, {"colour": "grün"}, "late")
        assert (after.status, after.parameters, after.created_at) == (before.status, before.parameters, before.created_at)
        assert after.updated_at > before.updated_at

    def test_an_update_of_an_unknown_job_is_refused(self, store: MovableStore) -> None:
        """Nothing is created by an update."""
        assert not store.update_job(job_id_of("nobody"), JobUpdate(error_details="?"))
        assert _list_ids(store) == []

    def test_text_is_stored_as_it_is(self, store: MovableStore) -> None:
        """Quotes, line ends, other scripts and signs beyond 16 bits come back unchanged."""
        text = 'a "quote", a \\, a line\nend, Ελληνικά, 漢字, 🛰'
        create(store, new_job())
        assert store.update_job(new_job().job_id, JobUpdate(metadata={text: [text, None, 1.5, True]}, error_details=text))
        job = get_job(store, new_job())
        assert (job.metadata, job.error_details) == ({text: [text, None, 1.5, True]}, text)


def _conflict(key: str, holder: str, asked: str) -> str:
    return (
        f"idempotency key '{key}' of demo belongs to job {job_id_of(holder)}, which has other parameters than job "
        f"{job_id_of(asked)}; nothing was created: use another key, or send the same parameters"
    )
