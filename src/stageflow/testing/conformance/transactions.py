"""Transactions of handlers: what is completed in one is committed with what else was written in it, or not at all."""

import threading
from typing import Any, Final

import pytest

from stageflow.contracts.lease import CompletionOutcome, Lease, TaskCompletionResult
from stageflow.contracts.status import TaskStatus
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    MovableStore,
    claim_all,
    claim_one,
    complete_ok,
    complete_one,
    finish,
    let_leases_expire,
    new_job,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_status, get_statuses, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def complete_inside(store: MovableStore, transaction: Any, *leases: Lease) -> list[TaskCompletionResult]:
    """Complete leases as a whole in a transaction that is open."""
    reports = [complete_ok(lease) for lease in leases]
    return store.complete_tasks(reports, worker_id="ada", lease_seconds=LEASE_SECONDS, connection=transaction.connection)


class TransactionConformance(StoreScenarios):
    """Completing in a transaction of a handler."""

    def test_a_completion_commits_with_the_transaction(self, store: MovableStore) -> None:
        """The last finisher of a stage receives the advancement, which exists once the transaction is committed."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        transaction = store.begin_transaction()
        transaction.require_open()
        (answer,) = complete_inside(store, transaction, lease)
        transaction.commit()
        transaction.roll_back()
        assert (answer.outcome, answer.is_last_task_in_stage) == (CompletionOutcome.RECORDED, True)
        assert get_statuses(store, _JOB) == [OK, OK]
        assert answer.advance is not None
        assert finish(store, answer.advance).job_updated
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.ALREADY_RECORDED

    def test_a_completion_rolls_back_with_the_transaction(self, store: MovableStore) -> None:
        """What was rolled back was never there: the lease holds, and its report is recorded afterwards."""
        start(store, _JOB, 2)
        lease = claim_one(store, _TASKS)
        before = snapshot(store, _JOB)
        transaction = store.begin_transaction()
        assert complete_inside(store, transaction, lease)[0].is_last_task_in_stage
        transaction.roll_back()
        assert snapshot(store, _JOB) == before
        assert complete_one(store, complete_ok(lease)).is_last_task_in_stage

    def test_two_reports_on_one_lease_are_recorded_in_order(self, store: MovableStore) -> None:
        """What was not yet reported goes along with the task whose transaction it is, each with an outcome of its own."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        transaction = store.begin_transaction()
        reports = [report(lease, OK, BAD), complete_ok(lease, 1, first=2)]
        answers = store.complete_tasks(reports, worker_id="ada", lease_seconds=LEASE_SECONDS, connection=transaction.connection)
        transaction.commit()
        assert [answer.outcome for answer in answers] == [CompletionOutcome.RECORDED] * 2
        assert answers[1].is_last_task_in_stage
        assert get_statuses(store, _JOB) == [OK, BAD, OK]

    def test_a_task_that_an_operator_took_out_is_stale_though_those_before_it_are_recorded(self, store: MovableStore) -> None:
        """The outcome of the last report is that of its own task, so that its writes are not committed without it."""
        start(store, _JOB, 3)
        lease = claim_one(store, _TASKS)
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.FAILED, "by hand")
        transaction = store.begin_transaction()
        answers = store.complete_tasks(
            [complete_ok(lease, 1), complete_ok(lease, 1, first=1)],
            worker_id="ada",
            lease_seconds=LEASE_SECONDS,
            connection=transaction.connection,
        )
        transaction.roll_back()
        assert [answer.outcome for answer in answers] == [CompletionOutcome.RECORDED, CompletionOutcome.STALE]

    def test_a_stale_holder_writes_nothing_in_its_transaction(self, store: MovableStore) -> None:
        """Who lost the lease learns it before the commit."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        let_leases_expire(store)
        rival = claim_one(store, _TASKS, worker="bob")
        transaction = store.begin_transaction()
        (answer,) = complete_inside(store, transaction, lease)
        transaction.roll_back()
        assert (answer.outcome, answer.task_updated, answer.advance) == (CompletionOutcome.STALE, False, None)
        assert complete_one(store, complete_ok(rival)).is_last_task_in_stage

    def test_a_job_submitted_in_the_transaction_commits_with_it(self, store: MovableStore) -> None:
        """A handler can start further jobs with its completion, or not at all."""
        start(store, _JOB, 2, range_count=2)
        first, second = claim_all(store, _TASKS)
        transaction = store.begin_transaction()
        assert store.create_jobs([new_job("lost")], connection=transaction.connection).created == [True]
        transaction.roll_back()
        transaction = store.begin_transaction()
        assert store.create_jobs([new_job("kept")], connection=transaction.connection).created == [True]
        complete_inside(store, transaction, first)
        transaction.commit()
        assert store.get_jobs([new_job("lost").job_id]) == []
        assert get_status(store, new_job("kept")) == "queued"
        assert complete_one(store, complete_ok(second)).is_last_task_in_stage

    def test_its_user_cannot_end_the_transaction(self, store: MovableStore) -> None:
        """Whatever the driver's connection has to commit, roll back or be left by, refuses, and the transaction stays open."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        transaction = store.begin_transaction()
        for ending in (transaction.connection.commit, transaction.connection.rollback):
            with pytest.raises(Exception, match=r"commit|rollback"):
                ending()
        transaction.require_open()
        complete_inside(store, transaction, lease)
        transaction.commit()
        assert get_statuses(store, _JOB) == [OK]

    def test_after_its_end_nothing_can_be_written(self, store: MovableStore) -> None:
        """A handler that was left alone holds a connection that is good for nothing, whoever writes meanwhile."""
        start(store, _JOB, 1)
        transaction = store.begin_transaction()
        transaction.connection.execute("create table left_alone (number integer)")
        transaction.roll_back()
        with pytest.raises(Exception, match=r"closed|over"):
            transaction.connection.execute("create table left_alone (number integer)")
        again = store.begin_transaction()
        again.connection.execute("create table left_alone (number integer)")
        again.roll_back()

    def test_it_is_begun_in_one_thread_and_ended_in_another(self, store: MovableStore) -> None:
        """A handler with a timeout runs in a thread that is not its slot's."""
        start(store, _JOB, 1)
        lease = claim_one(store, _TASKS)
        begun: list[Any] = []
        thread = threading.Thread(target=lambda: begun.append(store.begin_transaction()))
        thread.start()
        thread.join()
        complete_inside(store, begun[0], lease)
        begun[0].commit()
        assert get_statuses(store, _JOB) == [OK]
