"""What became of one message or one lease: the typed answer of the boundary methods."""

from enum import StrEnum

from pydantic import Field

from stageflow.contracts.base import LateContract
from stageflow.contracts.ids import JobId
from stageflow.contracts.lease import CompletionOutcome


class ProcessingOutcome(StrEnum):
    """What happened to the work that a message names.

    ``DONE``: carried out now. ``DUPLICATE``: nothing of it was left to do; acknowledge. ``LEASED``: another worker has it;
    look again when that lease ends. ``HELD``: paused or due later; acknowledge, it is announced again when freed.
    """

    DONE = "done"
    DUPLICATE = "duplicate"
    LEASED = "leased"
    HELD = "held"


class ProcessingResult(LateContract):
    """The answer of ``process_job_queue_message``, ``process_task_queue_message`` and ``process_job_stage``.

    Attributes:
        completions: What the store did with each flushed prefix of the task range; empty for control work.
        tasks_run: Handlers that were called.
        stages_advanced: Stages that this call closed.
        stages_planned: Stages that this call planned.
        job_ended: Whether this call ended the job.
    """

    outcome: ProcessingOutcome
    job_id: JobId
    completions: list[CompletionOutcome] = Field(default_factory=list)
    tasks_run: int = Field(default=0, ge=0)
    stages_advanced: list[int] = Field(default_factory=list)
    stages_planned: list[int] = Field(default_factory=list)
    job_ended: bool = False
