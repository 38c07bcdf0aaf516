"""Why a job is where it is, as a chain from effect to cause."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.ids import JobId
from stageflow.contracts.status import JobStatus
from stageflow.insights.words import clock_time

CAUSE: Final = 2
"""The depth of what explains why a stage waits."""


class FindingKind(StrEnum):
    """What a sentence of an explanation is about."""

    JOB_COMPLETED = "job_completed"
    JOB_FAILED = "job_failed"
    JOB_CANCELLED = "job_cancelled"
    JOB_PAUSED = "job_paused"
    JOB_OPEN = "job_open"
    STAGE_WAITS = "stage_waits"
    STAGE_FAILED = "stage_failed"
    TASK_FAILED = "task_failed"
    DEADLINE = "deadline"
    PLANNING = "planning"
    ADVANCING = "advancing"
    WAITS_FOR_START = "waits_for_start"
    RETRY_SCHEDULED = "retry_scheduled"
    RUNNING = "running"
    HANDLER_SLOW = "handler_slow"
    WORKER_SILENT = "worker_silent"
    WORKER_DIED = "worker_died"
    READY = "ready"
    NO_WORKER = "no_worker"
    NOT_ANNOUNCED = "not_announced"
    QUEUE_UNREACHABLE = "queue_unreachable"
    HELD = "held"
    TYPE_PAUSED = "type_paused"
    LIMIT_REACHED = "limit_reached"
    RATE_LIMITED = "rate_limited"
    STUCK = "stuck"


class Finding(LateContract):
    """One sentence of an explanation.

    Attributes:
        depth: 0 for what is seen, 1 for its cause, 2 for the cause of that.
        stage_number: The stage it is about; ``None`` where it is about the job.
        task_count: How many tasks it is about; 0 where it is about none.
        text: The sentence.
        since: When it began.
        until: When it ends, or will change by itself.
        advice: What to do next; empty where nothing needs to be done.
    """

    kind: FindingKind
    depth: int = Field(default=0, ge=0)
    stage_number: int | None = None
    task_count: int = Field(default=0, ge=0)
    text: str
    since: UtcDatetime | None = None
    until: UtcDatetime | None = None
    advice: str = ""


class Explanation(LateContract):
    """Why a job is not moving, that it is, or how it ended.

    Attributes:
        now: The store's time at which it was true.
        findings: From effect to cause: a finding explains the one before it that has a smaller depth.
    """

    job_id: JobId
    job_type: str
    status: JobStatus
    now: UtcDatetime
    findings: list[Finding]

    @property
    def kinds(self) -> list[FindingKind]:
        """What the sentences are about, in order."""
        return [finding.kind for finding in self.findings]

    @property
    def text(self) -> str:
        """The explanation for people: a line for each finding, indented under what it explains, and what to do next."""
        lines = [f"{self.job_type} {self.job_id[:16]} is {self.status} (at {clock_time(self.now, self.now)} UTC)"]
        for finding in self.findings:
            indent = "  " * finding.depth
            lines.append(f"{indent}- {finding.text}")
            if finding.advice:
                lines.append(f"{indent}  next: {finding.advice}")
        return "\n".join(lines)
