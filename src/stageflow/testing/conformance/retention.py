"""Retention: what ended long ago goes whole, and nothing that is still wanted goes at all."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from stageflow.contracts.dead_letter import DeadLetterState, NewDeadLetter
from stageflow.contracts.job import JobRecord, JobUpdate, NewJob
from stageflow.contracts.lease import CompletionOutcome
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.retention import PurgeBatch, PurgedBatch, PurgePosition
from stageflow.contracts.stage import NewStage
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.errors import StoreError
from stageflow.testing.conformance.builders import (
    Again,
    MovableStore,
    advance,
    cancel,
    claim_all,
    claim_one,
    complete_ok,
    complete_one,
    create,
    finish,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    plan_all,
    report,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import drain, get_job, get_rows, get_stage, get_status, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB = new_job()
_OTHER = new_job("other")
_HOUR = 3600.0


def purge(
    store: MovableStore,
    status: JobStatus = JobStatus.COMPLETED,
    *,
    before: datetime | None = None,
    after: PurgePosition | None = None,
    limit: int = 100,
    max_tasks: int = 1000,
    dry_run: bool = False,
) -> PurgedBatch:
    """Purge one batch: what was last changed more than an hour ago, where no time is given."""
    return store.purge_jobs(
        PurgeBatch(
            status=status,
            before=store.now() - timedelta(seconds=_HOUR) if before is None else before,
            after=after,
            limit=limit,
            max_tasks=max_tasks,
            dry_run=dry_run,
        )
    )


def complete_job(store: MovableStore, job: NewJob, count: int = 2) -> None:
    """Run a job of one stage to its end."""
    start(store, job, count)
    assert finish(store, run_all(store, job)).job_updated


def resubmit(store: MovableStore, job: NewJob, *stages: NewStage) -> JobRecord:
    """Run a job again, for the first time."""
    record = store.resubmit_job(NewRun(job_id=job.job_id, former_run=1, stages=stages))
    assert record is not None
    return record


def is_there(store: MovableStore, job: NewJob) -> bool:
    """Return whether a job is stored."""
    return bool(store.get_jobs([job.job_id]))


class PurgeConformance(StoreScenarios):
    """Deleting jobs by their age."""

    def test_an_old_job_goes_with_all_that_belongs_to_it(self, store: MovableStore) -> None:
        """Nothing of it can be read any more, another job keeps everything, and the request can be made again."""
        complete_job(store, _JOB, 3)
        store.move_clock(2 * _HOUR)
        complete_job(store, _OTHER)
        stage = get_stage(store, _JOB)
        kept, kept_rows = snapshot(store, _OTHER), get_rows(store, get_stage(store, _OTHER))
        purged = purge(store)
        assert (purged.jobs, purged.tasks, purged.kept) == (1, 3, 0)
        assert purged.size_bytes > 0
        assert not is_there(store, _JOB)
        assert store.get_stage(stage.stage_id) is None
        assert store.list_stages(_JOB.job_id, 1) == []
        assert get_rows(store, stage) == []
        assert store.list_tasks(_JOB.job_id, 1, 1, first_index=0, limit=10) == []
        assert (snapshot(store, _OTHER), get_rows(store, get_stage(store, _OTHER))) == (kept, kept_rows)
        complete_job(store, _JOB)

    def test_a_dry_run_says_the_same_and_deletes_nothing(self, store: MovableStore) -> None:
        """What it counts is what the purge then deletes."""
        complete_job(store, _JOB, 3)
        store.move_clock(2 * _HOUR)
        before = snapshot(store, _JOB)
        promised = purge(store, dry_run=True)
        assert snapshot(store, _JOB) == before
        assert promised.jobs == 1
        assert purge(store) == promised
        assert purge(store).last is None

    def test_age_counts_from_the_last_change(self, store: MovableStore) -> None:
        """A job that was annotated since is young again, however long ago it ended."""
        complete_job(store, _JOB)
        store.move_clock(2 * _HOUR)
        assert store.update_job(_JOB.job_id, JobUpdate(metadata={"looked_at": True}))
        assert purge(store) == PurgedBatch(jobs=0, tasks=0, size_bytes=0, kept=0, last=None)
        assert is_there(store, _JOB)
        store.move_clock(_HOUR + 1)
        assert purge(store).jobs == 1

    @pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.PAUSED], ids=lambda each: each.value)
    def test_an_unfinished_job_is_never_purged(self, store: MovableStore, status: JobStatus) -> None:
        """However old it is: asking for its status is refused, and no other status finds it."""
        create(store, _JOB)
        if status is not JobStatus.QUEUED:
            plan_all(store, _JOB, 2)
        if status is JobStatus.PAUSED:
            pause(store, _JOB)
        assert get_status(store, _JOB) is status
        store.move_clock(1000 * _HOUR)
        with pytest.raises(StoreError, match="have not ended and are never purged"):
            purge(store, status)
        for ended in (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS, JobStatus.FAILED, JobStatus.CANCELLED):
            assert purge(store, ended).jobs == 0
        assert is_there(store, _JOB)

    def test_a_job_whose_handlers_still_run_is_kept(self, store: MovableStore) -> None:
        """Late reports find their stage; when the last lease has ended, the job goes."""
        start(store, _JOB, 2, range_count=2)
        first, second = claim_all(store, tasks_type(_JOB))
        cancel(store, _JOB)
        before = store.now() + timedelta(seconds=_HOUR)
        assert purge(store, JobStatus.CANCELLED, before=before, dry_run=True).kept == 1
        purged = purge(store, JobStatus.CANCELLED, before=before)
        assert (purged.jobs, purged.kept) == (0, 1)
        assert complete_one(store, complete_ok(first)).outcome is CompletionOutcome.RECORDED
        assert purge(store, JobStatus.CANCELLED, before=before).kept == 1
        assert complete_one(store, report(second, Again(5.0))).outcome is CompletionOutcome.RECORDED
        assert purge(store, JobStatus.CANCELLED, before=before).jobs == 1
        assert not is_there(store, _JOB)

    def test_a_dead_workers_job_goes_after_its_recovery(self, store: MovableStore) -> None:
        """Recovery closes what the dead held, and then nothing keeps the job."""
        start(store, _JOB, 2)
        lease = claim_one(store, tasks_type(_JOB), max_tasks=1)
        assert store.save_checkpoint(lease.range_id, lease.token, lease.first, "{}")
        cancel(store, _JOB)
        store.move_clock(2 * _HOUR)
        assert purge(store, JobStatus.CANCELLED).kept == 1
        let_leases_expire(store)
        assert purge(store, JobStatus.CANCELLED).jobs == 1
        assert store.get_checkpoint(lease.stage_id, lease.first, 1) is None

    def test_a_resubmitted_job_is_kept_with_its_former_run(self, store: MovableStore) -> None:
        """The new run stands on the results of the former one; when it has ended, both go together."""
        job = new_job(stages=2)
        start(store, job, 3)
        assert advance(store, run_all(store, job), new_stage(2)).plan is not None
        cancel(store, job)
        former = store.list_stages(job.job_id, 1)
        store.move_clock(2 * _HOUR)
        resubmit(store, job, new_stage(2))
        rows = get_rows(store, former[0])
        assert purge(store, JobStatus.CANCELLED).last is None
        assert get_rows(store, former[0]) == rows
        assert drain(store, job).status is JobStatus.COMPLETED
        assert get_job(store, job).stage_results["1"].task_count == len(rows) == 3
        store.move_clock(2 * _HOUR)
        purged = purge(store)
        assert (purged.jobs, purged.tasks) == (1, 3)
        assert get_rows(store, former[0]) == []
        assert store.list_stages(job.job_id, 1) == store.list_stages(job.job_id, 2) == []

    def test_a_purged_job_is_not_resubmitted(self, store: MovableStore) -> None:
        """Who decides to run it again after it went is told that there is no such job."""
        start(store, _JOB, 1)
        cancel(store, _JOB)
        store.move_clock(2 * _HOUR)
        assert purge(store, JobStatus.CANCELLED).jobs == 1
        assert store.resubmit_job(NewRun(job_id=_JOB.job_id, former_run=1, stages=(_JOB.first_stage,))) is None

    def test_of_a_purge_and_a_resubmission_one_wins(self, store: MovableStore) -> None:
        """At the same moment: the job either goes whole, or begins its new run with the former one beside it."""
        for number in range(8):
            job = new_job(f"wanted {number}", job_type=f"wanted{number}")
            start(store, job, 1)
            cancel(store, job)
            store.move_clock(2 * _HOUR)
            former = store.list_stages(job.job_id, 1)
            new_run = NewRun(job_id=job.job_id, former_run=1, stages=(job.first_stage,))
            with ThreadPoolExecutor(2) as threads:
                purging = threads.submit(purge, store, JobStatus.CANCELLED)
                again = threads.submit(store.resubmit_job, new_run)
            assert purging.result().jobs == (again.result() is None)
            assert is_there(store, job) == (again.result() is not None)
            assert store.list_stages(job.job_id, 1) == (former if again.result() else [])
            assert [stage.run for stage in store.list_stages(job.job_id, 2)] == ([2] if again.result() else [])

    def test_batches_go_on_where_the_one_before_ended(self, store: MovableStore) -> None:
        """Oldest first, none twice, none left out, and what is kept does not stop the rest."""
        jobs = [new_job(f"job {number}") for number in range(5)]
        for job in jobs:
            start(store, job, 2)
            store.move_clock(1)
        held = claim_one(store, tasks_type(jobs[1]))
        for job in jobs:
            cancel(store, job)
        store.move_clock(2 * _HOUR)
        held_job = next(job for job in jobs if job.job_id == held.job_id)
        seen: list[PurgedBatch] = []
        while (batch := purge(store, JobStatus.CANCELLED, after=seen[-1].last if seen else None, limit=2)).last is not None:
            seen.append(batch)
        assert [batch.jobs + batch.kept for batch in seen] == [2, 2, 1]
        assert (sum(batch.jobs for batch in seen), sum(batch.kept for batch in seen)) == (4, 1)
        assert [is_there(store, job) for job in jobs] == [job is held_job for job in jobs]

    def test_a_batch_ends_behind_the_job_that_fills_it(self, store: MovableStore) -> None:
        """A job is never deleted in part: transactions stay short where jobs are small, and one job is one at most."""
        for job in (_JOB, _OTHER):
            complete_job(store, job, 5)
            store.move_clock(1)
        store.move_clock(2 * _HOUR)
        first = purge(store, max_tasks=3)
        assert (first.jobs, first.tasks, is_there(store, _JOB), is_there(store, _OTHER)) == (1, 5, False, True)
        assert purge(store, max_tasks=3, after=first.last).jobs == 1

    def test_other_ends_are_left_alone(self, store: MovableStore) -> None:
        """A purge of completed jobs keeps the failed ones, which somebody may want to look into."""
        complete_job(store, _JOB)
        create(store, _OTHER)
        assert store.change_job_status(_OTHER.job_id, JobStatus.FAILED, JobUpdate(error_details="no disk")) is not None
        store.move_clock(2 * _HOUR)
        assert purge(store).jobs == 1
        assert get_job(store, _OTHER).error_details == "no disk"
        assert purge(store, JobStatus.FAILED).jobs == 1

    def test_failed_tasks_and_skipped_ranges_go_too(self, store: MovableStore) -> None:
        """Nothing of a job keeps it: neither its failures nor the rows that stand for work never done."""
        start(store, _JOB, 4, range_count=2)
        lease = claim_one(store, tasks_type(_JOB), max_tasks=1)
        complete_one(store, report(lease, TaskStatus.FAILED))
        cancel(store, _JOB)
        store.move_clock(2 * _HOUR)
        assert purge(store, JobStatus.CANCELLED).tasks == 4


class PurgeLettersConformance(StoreScenarios):
    """Deleting dead letters by their age."""

    def test_old_letters_that_were_dealt_with_go(self, store: MovableStore) -> None:
        """Open ones stay whatever their age, and so do young ones."""
        parked = [store.add_dead_letter(_letter(f"m{number}")) for number in range(4)]
        store.change_dead_letter(parked[0].letter_id, DeadLetterState.REQUEUED)
        store.change_dead_letter(parked[1].letter_id, DeadLetterState.DISCARDED)
        store.change_dead_letter(parked[2].letter_id, DeadLetterState.DISCARDED)
        store.move_clock(2 * _HOUR)
        young = store.add_dead_letter(_letter("young"))
        store.change_dead_letter(young.letter_id, DeadLetterState.DISCARDED)
        before = store.now() - timedelta(seconds=_HOUR)
        promised = store.purge_letters(before=before, limit=2, dry_run=True)
        assert promised.letters == 2
        assert promised.size_bytes >= 2 * len(b"not json")
        assert len(store.list_dead_letters(limit=10, after=0)) == 5
        assert store.purge_letters(before=before, limit=2, dry_run=False) == promised
        assert store.purge_letters(before=before, limit=2, dry_run=False).letters == 1
        left = [letter.letter_id for letter in store.list_dead_letters(limit=10, after=0)]
        assert left == [parked[3].letter_id, young.letter_id]


def _letter(message_id: str) -> NewDeadLetter:
    return NewDeadLetter(queue="q", message_id=message_id, body=b"not json", reason="not JSON", delivery_count=1)
