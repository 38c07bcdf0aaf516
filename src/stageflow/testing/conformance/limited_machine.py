"""Generated schedules in which an operator limits and pauses the task type at any moment."""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.limits import TaskTypeLimit
from stageflow.testing.conformance.builders import TASK_TYPE, MovableStore
from stageflow.testing.conformance.machine import StoreMachine, run_machine
from stageflow.testing.conformance.scenario import StoreScenarios

_CHANGES: Final = ["limit", "limit", "lift", "declare", "reset", "pause", "resume", "resume"]


class LimitedMachine(StoreMachine):
    """One job whose task type is limited and paused, besides everything else that happens to it.

    What was given out before counts, so a claim adds to what runs only up to the limit; at the end the limit still holds.
    """

    def __init__(self, store: MovableStore) -> None:
        super().__init__(store)
        self.limit: int | None = None
        self.declared: int | None = None
        self.overridden = False
        self.type_paused = False

    @rule(change=st.sampled_from(_CHANGES), most=st.integers(1, 3))
    def operate_type(self, *, change: str, most: int) -> None:
        """Let one thing happen to the type."""
        self.told.append(change)
        match change:
            case "limit" | "lift":
                self.limit, self.overridden = most if change == "limit" else None, True
                self.store.limit_task_type(self._word(self.limit))
            case "declare":
                self.declared = most
                self.store.declare_limits([self._word(most)])
                self.limit = self.limit if self.overridden else most
            case "reset":
                self.limit, self.overridden = self.declared, False
                self.store.reset_task_type(self.job.job_type, TASK_TYPE)
            case "pause":
                self.type_paused = True
                self.store.pause_task_type(self.job.job_type, TASK_TYPE)
            case _:
                self._resume_type()

    def teardown(self) -> None:
        """Bring the job to its end, within the limit."""
        if self.begun:
            self._resume_type()
        super().teardown()

    def _claim(self, *work_types: str, worker: str, max_tasks: int = 1, max_leases: int = 1) -> list[Lease]:
        leases = super()._claim(*work_types, worker=worker, max_tasks=max_tasks, max_leases=max_leases)
        if any(lease.kind is WorkKind.TASK for lease in leases):
            assert not self.type_paused, "nothing of a paused type is claimed"
            running = sum(lease.kind is WorkKind.TASK for lease in self._held())
            assert self.limit is None or running <= self.limit, "no claim leads beyond the limit"
        return leases

    def _resume_type(self) -> None:
        self.type_paused = False
        self.store.resume_task_type(self.job.job_type, TASK_TYPE)

    def _word(self, most: int | None) -> TaskTypeLimit:
        return TaskTypeLimit(job_type=self.job.job_type, task_type=TASK_TYPE, max_running=most)


class LimitedScheduleConformance(StoreScenarios):
    """Limits under generated schedules."""

    def test_limits_hold_under_generated_schedules(self, store: MovableStore) -> None:
        """Whenever a type is limited or paused: no claim leads beyond it, and the job can still end within the limit."""
        run_machine(lambda: LimitedMachine(store), schedules=20, steps=40, repeatable=True)
