"""The outbox, parked messages and live workers."""

from collections.abc import Sequence
from typing import Final

import pytest

from stageflow.contracts.dead_letter import DeadLetterState, NewDeadLetter
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.worker import WorkerRecord
from stageflow.errors import InvalidTransitionError
from stageflow.testing.conformance.builders import (
    NOON,
    Again,
    MovableStore,
    advance,
    ask,
    cancel,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    control_type,
    create,
    give_back,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    plan_all,
    recover,
    report,
    resume,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _waiting(store: MovableStore, *, older_than_seconds: float | None = None, limit: int = 100) -> list[Announcement]:
    return store.list_unannounced(older_than_seconds=older_than_seconds, limit=limit)


def _announce(store: MovableStore) -> list[Announcement]:
    items = _waiting(store)
    store.mark_announced([item.range_id for item in items])
    return items


def _spans(items: Sequence[Announcement]) -> list[tuple[int, int]]:
    messages = [item.message for item in items]
    return sorted((message.first, message.last) for message in messages if isinstance(message, TaskQueueMessage))


class OutboxConformance(StoreScenarios):
    """Ready work that an external queue is to hear of."""

    def test_a_new_job_is_to_be_announced(self, store: MovableStore) -> None:
        """The message that a job calls for is there with the job, until it was sent."""
        create(store, _JOB)
        (item,) = _waiting(store)
        assert item.message == JobQueueMessage(job_id=_JOB.job_id, job_type="demo", run=1, stage_number=1)
        store.mark_announced([item.range_id])
        assert _waiting(store) == []

    def test_planned_tasks_are_to_be_announced_range_by_range(self, store: MovableStore) -> None:
        """A task message names a range and carries no payload."""
        start(store, _JOB, 6, range_count=2)
        items = sorted(_waiting(store), key=lambda item: item.range_id)
        assert [item.message for item in items] == [
            TaskQueueMessage(job_id=_JOB.job_id, job_type="demo", task_type="work", stage_number=1, first=first, last=first + 3)
            for first in (0, 3)
        ]
        store.mark_announced([items[0].range_id])
        assert _waiting(store) == [items[1]]

    def test_announcing_nothing_is_allowed(self, store: MovableStore) -> None:
        """Empty and unknown lists are no errors: the range may have been claimed meanwhile."""
        store.mark_announced([])
        store.mark_announced([987_654])
        assert _waiting(store) == []

    def test_the_outbox_is_read_in_portions(self, store: MovableStore) -> None:
        """A limit is kept, and what was sent makes room for the rest."""
        create(store, *[new_job(str(number)) for number in range(5)])
        seen = []
        while items := _waiting(store, limit=2):
            assert len(items) <= 2
            seen += [item.message.job_id for item in items]
            store.mark_announced([item.range_id for item in items])
        assert sorted(seen) == sorted(new_job(str(number)).job_id for number in range(5))

    def test_a_lost_message_is_sent_again_after_a_while(self, store: MovableStore) -> None:
        """Work that is still ready long after it was announced is announced once more."""
        start(store, _JOB, 1)
        (item,) = _announce(store)
        store.move_clock(30)
        assert _waiting(store, older_than_seconds=60) == []
        store.move_clock(40)
        assert _waiting(store, older_than_seconds=60) == [item]
        assert _waiting(store) == []
        store.mark_announced([item.range_id])
        assert _waiting(store, older_than_seconds=60) == []

    def test_what_was_never_announced_is_there_at_any_age(self, store: MovableStore) -> None:
        """Asking for old announcements finds those that were never made, too."""
        create(store, _JOB)
        assert len(_waiting(store, older_than_seconds=60)) == 1

    def test_leased_delayed_and_held_work_is_not_announced(self, store: MovableStore) -> None:
        """Only what can be claimed is worth a message."""
        start(store, _JOB, 2, range_count=2)
        leases = claim_all(store, _TASKS)
        complete_one(store, report(leases[0], Again(60.0)))
        start(store, new_job("paused"), 2)
        pause(store, new_job("paused"))
        ask(store, _TASKS)
        assert _waiting(store) == []
        start(store, new_job("cancelled"), 2)
        cancel(store, new_job("cancelled"))
        assert _waiting(store) == []

    def test_what_becomes_ready_again_is_announced_again(self, store: MovableStore) -> None:
        """Returned, split off, recovered, due and resumed work each calls for a new message."""
        start(store, _JOB, 9)
        assert _spans(_announce(store)) == [(0, 9)]
        lease = claim_one(store, _TASKS, max_tasks=3)
        assert _spans(_announce(store)) == [(3, 9)]
        store.return_ranges([give_back(lease, 2)])
        assert _spans(_announce(store)) == [(2, 3)]
        let_leases_expire(store)
        assert _spans(_announce(store)) == [(0, 2)]
        lease = claim_one(store, _TASKS, max_tasks=1)
        _announce(store)
        complete_one(store, report(lease, Again(60.0)))
        store.move_clock(61)
        recover(store)
        assert _spans(_announce(store)) == [(lease.first, lease.last)]
        pause(store, _JOB)
        assert ask(store, _TASKS).leases == []
        resume(store, _JOB)
        assert sum(last - first for first, last in _spans(_announce(store))) == 9

    def test_a_range_that_comes_back_whole_is_announced_again(self, store: MovableStore) -> None:
        """The message that led to a lost or returned lease is used up; the work calls for another."""
        start(store, _JOB, 2)
        assert len(_announce(store)) == 1
        lease = claim_one(store, _TASKS)
        store.return_ranges([give_back(lease)])
        assert _spans(_announce(store)) == [(0, 2)]
        claim_one(store, _TASKS)
        let_leases_expire(store)
        assert _spans(_announce(store)) == [(0, 2)]

    def test_an_advancement_that_waits_for_a_resumption_is_announced_with_it(self, store: MovableStore) -> None:
        """What a paused job cannot use yet is no message; when it is resumed it is."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        pause(store, _JOB)
        assert complete_one(store, complete_ok(lease)).advance is None
        assert _waiting(store) == []
        resume(store, _JOB)
        (item,) = _waiting(store)
        assert item.message == JobQueueMessage(job_id=_JOB.job_id, job_type="demo", stage_number=1)

    def test_an_advancement_that_nobody_holds_is_announced(self, store: MovableStore) -> None:
        """An empty stage, and a stage that lost its advancer, call for a job message of their own."""
        job = new_job(stages=2)
        create(store, job)
        plan_all(store, job, 0)
        (item,) = _announce(store)
        assert item.message == JobQueueMessage(job_id=job.job_id, job_type="demo", stage_number=1)
        lease = claim_one(store, control_type(job))
        plan = advance(store, lease, new_stage(2)).plan
        assert plan is not None
        assert _waiting(store) == []
        let_leases_expire(store)
        (item,) = _waiting(store)
        assert item.message == JobQueueMessage(job_id=job.job_id, job_type="demo", stage_number=2)

    def test_an_advancement_that_was_handed_over_is_not_announced(self, store: MovableStore) -> None:
        """What the last finisher holds needs no message."""
        start(store, _JOB, 1)
        complete_one(store, complete_ok(claim_one(store, _TASKS)))
        assert _waiting(store) == []

    def test_a_delayed_job_is_announced_when_it_is_due(self, store: MovableStore) -> None:
        """A message before its time would find nothing."""
        job = new_job(not_before=store.now().replace(microsecond=0).replace(year=store.now().year + 1))
        create(store, job)
        assert _waiting(store) == []
        store.move_clock(366 * 86_400)
        recover(store)
        assert len(_waiting(store)) == 1
        claim_plan(store, job)

    def test_nothing_of_an_ended_job_is_announced(self, store: MovableStore) -> None:
        """A finished job calls for no message."""
        job = new_job(stages=2)
        start(store, job, 1)
        advance(store, run_all(store, job), new_stage(2))
        cancel(store, job)
        let_leases_expire(store)
        assert _waiting(store) == []
        assert _waiting(store, older_than_seconds=0) == []


class DeadLetterConformance(StoreScenarios):
    """Parked messages."""

    def test_a_parked_message_keeps_its_bytes_and_its_reason(self, store: MovableStore) -> None:
        """What could not be decoded is kept as it came."""
        new = NewDeadLetter(queue="tasks", message_id="m1", body=b"\x00\xff not json \x80", reason="not JSON", delivery_count=5)
        letter = store.add_dead_letter(new)
        assert (letter.queue, letter.message_id, letter.body) == ("tasks", "m1", new.body)
        assert (letter.reason, letter.delivery_count, letter.state) == ("not JSON", 5, DeadLetterState.OPEN)
        assert abs((store.now() - letter.created_at).total_seconds()) < 60
        assert store.list_dead_letters(limit=10, after=0) == [letter]

    def test_a_message_is_parked_once(self, store: MovableStore) -> None:
        """Parking again, as after a lost reply, returns the letter that is there; another queue's id is another message."""
        new = NewDeadLetter(queue="tasks", message_id="m1", body=b"one", reason="first", delivery_count=1)
        letter = store.add_dead_letter(new)
        again = store.add_dead_letter(new.model_copy(update={"body": b"two", "reason": "second", "delivery_count": 2}))
        assert again == letter
        other = store.add_dead_letter(new.model_copy(update={"queue": "jobs"}))
        assert other.letter_id != letter.letter_id
        assert len(store.list_dead_letters(limit=10, after=0)) == 2

    def test_parked_messages_are_listed_oldest_first_and_page_by_page(self, store: MovableStore) -> None:
        """Each letter is seen once."""
        for number in range(5):
            new = NewDeadLetter(queue="tasks", message_id=str(number), body=b"", reason="?", delivery_count=1)
            store.add_dead_letter(new)
        first = store.list_dead_letters(limit=3, after=0)
        second = store.list_dead_letters(limit=3, after=first[-1].letter_id)
        assert [letter.message_id for letter in (*first, *second)] == ["0", "1", "2", "3", "4"]
        assert store.list_dead_letters(limit=3, after=second[-1].letter_id) == []

    @pytest.mark.parametrize("new_state", [DeadLetterState.REQUEUED, DeadLetterState.DISCARDED])
    def test_an_open_letter_is_dealt_with_once(self, store: MovableStore, new_state: DeadLetterState) -> None:
        """What an operator did is noted, the bytes stay, and no second decision is taken on the same letter."""
        new = NewDeadLetter(queue="tasks", message_id="m1", body=b"\xff", reason="?", delivery_count=1)
        letter = store.add_dead_letter(new)
        changed = store.change_dead_letter(letter.letter_id, new_state)
        assert changed == letter.model_copy(update={"state": new_state})
        for later in DeadLetterState:
            with pytest.raises(InvalidTransitionError, match=f"letter {letter.letter_id} is {new_state} and cannot become"):
                store.change_dead_letter(letter.letter_id, later)
        assert store.list_dead_letters(limit=10, after=0) == [changed]
        assert store.add_dead_letter(new) == changed

    def test_an_unknown_letter_is_not_dealt_with(self, store: MovableStore) -> None:
        """There is nothing to be noted."""
        assert store.change_dead_letter(99, DeadLetterState.DISCARDED) is None

    def test_letters_are_listed_by_their_state(self, store: MovableStore) -> None:
        """Who looks for what is to be done sees the open ones only."""
        letters = [
            store.add_dead_letter(NewDeadLetter(queue="jobs", message_id=name, body=b"", reason="?", delivery_count=1))
            for name in ("a", "b", "c")
        ]
        store.change_dead_letter(letters[1].letter_id, DeadLetterState.DISCARDED)
        assert store.list_dead_letters(limit=10, after=0, state=DeadLetterState.OPEN) == [letters[0], letters[2]]
        after = letters[0].letter_id
        assert store.list_dead_letters(limit=10, after=after, state=DeadLetterState.OPEN) == [letters[2]]
        (discarded,) = store.list_dead_letters(limit=10, after=0, state=DeadLetterState.DISCARDED)
        assert discarded.message_id == "b"


class WorkerConformance(StoreScenarios):
    """Live workers."""

    def test_a_worker_is_seen_with_what_it_can_do(self, store: MovableStore) -> None:
        """A worker's row reads back, seen at the store's time and not at its own."""
        worker = WorkerRecord(
            worker_id="ada",
            host="box",
            pid=17,
            slots=4,
            work_types=["demo/1", "demo/1/work"],
            started_at=NOON,
            seen_at=NOON,
        )
        before = store.now()
        store.register_worker(worker)
        (seen,) = store.list_workers(60)
        assert seen.model_copy(update={"seen_at": NOON}) == worker
        assert before <= seen.seen_at <= store.now()

    def test_a_worker_refreshes_its_row(self, store: MovableStore) -> None:
        """The same worker again is the same row, with what it says now."""
        worker = WorkerRecord(worker_id="ada", host="box", pid=17, slots=4, work_types=[], started_at=NOON, seen_at=NOON)
        store.register_worker(worker)
        (first,) = store.list_workers(60)
        store.move_clock(100)
        assert store.list_workers(60) == []
        store.register_worker(worker.model_copy(update={"slots": 8, "work_types": ["demo/2"]}))
        (second,) = store.list_workers(60)
        assert (second.slots, second.work_types) == (8, ["demo/2"])
        assert second.seen_at > first.seen_at

    def test_a_worker_that_signs_off_is_gone_at_once(self, store: MovableStore) -> None:
        """Its row goes and no other; where there is none, nothing happens."""
        worker = WorkerRecord(worker_id="ada", host="box", pid=17, slots=4, work_types=[], started_at=NOON, seen_at=NOON)
        store.register_worker(worker)
        store.register_worker(worker.model_copy(update={"worker_id": "bob"}))
        for _ in range(2):
            store.remove_worker("ada")
            assert [worker.worker_id for worker in store.list_workers(60)] == ["bob"]

    def test_only_workers_that_were_seen_lately_are_listed(self, store: MovableStore) -> None:
        """A worker that was not heard of for a while is not counted as alive."""
        for number in range(3):
            store.register_worker(
                WorkerRecord(
                    worker_id=str(number),
                    host="box",
                    pid=number,
                    slots=1,
                    work_types=["demo/1"],
                    started_at=NOON,
                    seen_at=NOON,
                )
            )
            store.move_clock(50)
        assert sorted(worker.worker_id for worker in store.list_workers(120)) == ["1", "2"]
        assert len(store.list_workers(1000)) == 3
