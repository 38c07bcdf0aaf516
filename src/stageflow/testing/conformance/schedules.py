"""Schedules: each fire time once, whoever looks, and never half."""

from datetime import timedelta

import pytest

from stageflow.contracts.job import NewJob
from stageflow.contracts.schedule import CatchUp, Firing, NewSchedule, ScheduleRecord, ScheduleState
from stageflow.errors import IdempotencyConflictError
from stageflow.testing.conformance.builders import JOB_TYPE, MovableStore, all_types, create, job_id_of, new_job
from stageflow.testing.conformance.builders import ask as ask_for_work
from stageflow.testing.conformance.crowd import crowd


def new_schedule(store: MovableStore, name: str = "nightly", *, seconds: float = 60, **changes: object) -> NewSchedule:
    """Return a schedule that fires so many seconds from now."""
    fields: dict[str, object] = {
        "name": name,
        "job_type": JOB_TYPE,
        "parameters": '{"name":"job"}',
        "cron": "0 3 * * *",
        "time_zone": "Europe/Vienna",
        "catch_up": CatchUp.ONE,
        "priority": 7,
        "timeout_seconds": 2.5,
        "next_fire_at": store.now() + timedelta(seconds=seconds),
    }
    return NewSchedule.checked(**{**fields, **changes})


def firing_of(schedule: NewSchedule | ScheduleRecord, *jobs: NewJob) -> Firing:
    """Return a firing of a schedule at its next fire time, to fire again a day later."""
    assert schedule.next_fire_at is not None
    return Firing(
        name=schedule.name,
        expected=schedule.next_fire_at,
        next_fire_at=schedule.next_fire_at + timedelta(days=1),
        jobs=jobs,
        last_fire_at=schedule.next_fire_at if jobs else None,
    )


def get_schedule(store: MovableStore, name: str = "nightly") -> ScheduleRecord:
    """Return a schedule that exists."""
    return store.list_schedules(name)[0]


class CronConformance:
    """The promises of ``ScheduleStore``."""

    def test_a_schedule_is_kept_as_it_was_given(self, store: MovableStore) -> None:
        """Every field is read back, and schedules are listed by name."""
        wanted = new_schedule(store)
        stored = store.put_schedule(wanted)
        assert stored.parameters == {"name": "job"}
        for field in ("name", "job_type", "cron", "time_zone", "catch_up", "priority", "timeout_seconds", "next_fire_at"):
            assert getattr(stored, field) == getattr(wanted, field)
        assert (stored.state, stored.last_fire_at, stored.last_job_id) == (ScheduleState.ACTIVE, None, None)
        other = store.put_schedule(new_schedule(store, "daily"))
        assert store.list_schedules() == [other, stored]
        assert store.list_schedules("weekly") == []

    def test_a_schedule_that_says_the_same_stays_as_it_is(self, store: MovableStore) -> None:
        """Every process may put its schedules at its start: neither the next fire time nor a pause is lost."""
        stored = store.put_schedule(new_schedule(store))
        store.move_clock(10)
        assert store.put_schedule(new_schedule(store, seconds=3600)) == stored
        paused = store.change_schedule_state("nightly", ScheduleState.PAUSED, None)
        assert store.put_schedule(new_schedule(store)) == paused

    def test_a_changed_schedule_keeps_its_fire_time_unless_its_times_changed(self, store: MovableStore) -> None:
        """Other parameters do not lose a firing that is due; another expression begins anew."""
        stored = store.put_schedule(new_schedule(store))
        changed = store.put_schedule(new_schedule(store, seconds=999, timeout_seconds=None))
        assert (changed.next_fire_at, changed.timeout_seconds) == (stored.next_fire_at, None)
        moved = new_schedule(store, seconds=999, cron="5 3 * * *")
        assert store.put_schedule(moved).next_fire_at == moved.next_fire_at

    def test_a_schedule_is_due_by_the_stores_clock(self, store: MovableStore) -> None:
        """Not before, not for others' job types, not while paused; a removed one never."""
        stored = store.put_schedule(new_schedule(store))
        assert store.list_due_schedules([JOB_TYPE], 10) == []
        assert not store.fire_schedule(firing_of(stored, new_job()))
        store.move_clock(61)
        assert store.list_due_schedules([JOB_TYPE], 10) == [stored]
        assert store.list_due_schedules(["other"], 10) == []
        store.change_schedule_state("nightly", ScheduleState.PAUSED, None)
        assert store.list_due_schedules([JOB_TYPE], 10) == []
        assert not store.fire_schedule(firing_of(stored, new_job()))
        assert store.remove_schedule("nightly")
        assert not store.remove_schedule("nightly")
        assert store.change_schedule_state("nightly", ScheduleState.ACTIVE, store.now()) is None
        assert store.get_jobs([new_job().job_id]) == []

    def test_a_firing_creates_its_jobs_and_moves_on(self, store: MovableStore) -> None:
        """Both or neither; the jobs can be claimed, and the second firing of the same time does nothing."""
        stored = store.put_schedule(new_schedule(store))
        store.move_clock(61)
        jobs = [new_job("first"), new_job("second")]
        assert store.fire_schedule(firing_of(stored, *jobs))
        assert not store.fire_schedule(firing_of(stored, new_job("third")))
        assert [job.job_id for job in store.get_jobs([job.job_id for job in jobs])] == [job.job_id for job in jobs]
        assert store.get_jobs([job_id_of("third")]) == []
        fired = get_schedule(store)
        assert stored.next_fire_at is not None
        assert (fired.last_fire_at, fired.last_job_id) == (stored.next_fire_at, jobs[-1].job_id)
        assert fired.next_fire_at == stored.next_fire_at + timedelta(days=1)
        assert ask_for_work(store, *all_types(jobs[0])).leases

    def test_a_firing_without_jobs_only_moves_on(self, store: MovableStore) -> None:
        """What was missed and is not caught up leaves the last fire time as it was."""
        stored = store.put_schedule(new_schedule(store))
        store.move_clock(61)
        assert store.fire_schedule(firing_of(stored))
        assert (get_schedule(store).last_fire_at, get_schedule(store).last_job_id) == (None, None)
        assert store.list_due_schedules([JOB_TYPE], 10) == []

    def test_of_many_firings_of_one_time_one_counts(self, store: MovableStore) -> None:
        """However many workers look at the same moment, one creates the job."""
        stored = store.put_schedule(new_schedule(store))
        store.move_clock(61)
        answers = crowd(6, lambda number: store.fire_schedule(firing_of(stored, new_job(f"job {number}"))))
        assert sorted(answers) == [False] * 5 + [True]
        assert len(store.get_jobs([job_id_of(f"job {number}") for number in range(6)])) == 1

    def test_a_job_that_exists_already_is_not_made_twice(self, store: MovableStore) -> None:
        """The fire time is part of the job's id, so that even a schedule that was set back makes no second job."""
        stored = store.put_schedule(new_schedule(store))
        create(store, new_job())
        store.move_clock(61)
        assert store.fire_schedule(firing_of(stored, new_job()))
        assert len(store.list_jobs(status=None, job_type=None, id_prefix="", limit=10, after=None)) == 1

    def test_a_firing_whose_key_is_taken_changes_nothing(self, store: MovableStore) -> None:
        """Another job under the same key is an error, and the schedule stands where it stood."""
        stored = store.put_schedule(new_schedule(store))
        create(store, new_job("holder", idempotency_key="key"))
        store.move_clock(61)
        with pytest.raises(IdempotencyConflictError):
            store.fire_schedule(firing_of(stored, new_job(idempotency_key="key")))
        assert get_schedule(store) == stored

    def test_a_failed_schedule_keeps_its_reason_until_it_is_mended(self, store: MovableStore) -> None:
        """It fires no more; a resumption or another definition makes it active again."""
        stored = store.put_schedule(new_schedule(store))
        assert stored.next_fire_at is not None
        assert not store.fail_schedule("nightly", stored.next_fire_at + timedelta(seconds=1), "why")
        assert store.fail_schedule("nightly", stored.next_fire_at, "why")
        assert not store.fail_schedule("nightly", stored.next_fire_at, "again")
        failed = get_schedule(store)
        assert (failed.state, failed.error_details, failed.next_fire_at) == (ScheduleState.FAILED, "why", None)
        store.move_clock(61)
        assert store.list_due_schedules([JOB_TYPE], 10) == []
        following = store.now() + timedelta(seconds=5)
        active = store.change_schedule_state("nightly", ScheduleState.ACTIVE, following)
        assert active is not None
        assert (active.state, active.error_details, active.next_fire_at) == (ScheduleState.ACTIVE, None, following)
        assert store.fail_schedule("nightly", None, "its fire time cannot be read")
        assert not store.fail_schedule("nightly", None, "again")
        mended = store.put_schedule(new_schedule(store, priority=8))
        assert (mended.state, mended.error_details) == (ScheduleState.ACTIVE, None)
        assert mended.next_fire_at is not None
