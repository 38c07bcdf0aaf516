"""A job and the stages of its present run, read together."""

from stageflow.contracts.base import LateContract, UtcDatetime
from stageflow.contracts.job import JobRecord
from stageflow.contracts.stage import StageRecord


class JobState(LateContract):
    """What planning and advancing need to know of a job: its rows, and none of its tasks' results.

    Attributes:
        job: Its ``stage_results`` are left empty; what the stages left is in their ``stored_result``.
        stages: Those that the present run has opened, by number.
        now: The store's time.
    """

    job: JobRecord
    stages: list[StageRecord]
    now: UtcDatetime
