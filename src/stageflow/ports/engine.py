"""The engine, as a controller sees it."""

from typing import Protocol

from stageflow.contracts.job import JobRecord
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.processing import ProcessingResult
from stageflow.contracts.stage import StageResultContract


class Engine(Protocol):
    """The one path on which jobs move, as a controller's boundary methods see it; ``Stageflow`` injects it."""

    def process_job_queue_message(self, message: JobQueueMessage) -> ProcessingResult:
        """Plan or advance the stage that the message names, and what follows at once from it."""
        ...

    def process_task_queue_message(self, message: TaskQueueMessage) -> ProcessingResult:
        """Run the whole range that the message names, and what follows at once from it."""
        ...

    def process_job_stage(self, job: JobRecord, stage_number: int) -> ProcessingResult:
        """Plan or advance one stage of a job, whichever is due."""
        ...

    def handle_stage_completion(self, job_id: str, stage_number: int) -> ProcessingResult:
        """Turn a finished stage into the next one, or into the end of the job."""
        ...

    def stage_result(self, job: JobRecord, stage_number: int) -> StageResultContract:
        """Return the stored result of a closed stage.

        Raises:
            StageResultsMissingError: There is none; the message lists the stages there are.
            StageResultsInvalidError: It is malformed; the message names the field.
        """
        ...
