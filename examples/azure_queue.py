"""Azure Storage Queue carries the messages; the database keeps the truth.

The queue's connection string holds a secret, so it comes from the environment:

    STAGEFLOW_QUEUE="azure:$AZURE_STORAGE_CONNECTION_STRING" python examples/azure_queue.py

``STAGEFLOW_STORE`` names the store; a file that is deleted again where it is not set.
"""

import os
import sys
import tempfile
from collections.abc import Iterator

from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)


class Letter(Contract):
    """What the job is submitted with."""

    recipients: list[str] = Field(min_length=1)


class Address(Contract):
    """What a task of stage 1 gets."""

    recipient: str


class Envelope(Contract):
    """What it returns, and what stage 2 gets."""

    text: str


@task("letter_write")
def write(parameters: Address, context: TaskExecutionContext) -> Envelope:
    """Write a letter."""
    return Envelope(text=f"{context.task_index + 1}. Dear {parameters.recipient}")


@task("letter_seal")
def seal(parameters: Envelope, context: TaskExecutionContext) -> Envelope:
    """Seal it."""
    return Envelope(text=f"[{parameters.text}]")


@workflow("letters")
class LettersController(BaseController[Letter]):
    """Write, then seal."""

    writing = stage(1, "write", task=write)
    sealing = stage(2, "seal", task=seal, after=writing)

    @writing.plan
    def plan_writing(self, job: JobExecutionContext[Letter]) -> Iterator[Address]:
        """Plan one letter a recipient."""
        for recipient in job.parameters.recipients:
            yield Address(recipient=recipient)

    @sealing.plan
    def plan_sealing(self, job: JobExecutionContext[Letter], letters: StageResults[Envelope]) -> Iterator[Envelope]:
        """Plan to seal each."""
        yield from letters


def main(store: str, queue: str) -> None:
    """Run a job over the queue; print its results, and that messages carried it."""
    with Stageflow(store, queue=queue) as app:
        app.migrate()  # creates the queues, too
        job = app.submit(LettersController, Letter(recipients=["Ada", "Grace", "Radia"]), new_run=True).job
        with app.worker():
            answer = app.wait(job.job_id, timeout=60)
        print(answer.status)
        for result in answer.stage_results["2"].task_results:
            print(result.result_data)
        print(f"carried by messages: {app.telemetry.counts['work_announced'] > 0}")


if __name__ == "__main__":
    if "STAGEFLOW_QUEUE" not in os.environ:
        sys.exit("set STAGEFLOW_QUEUE to azure: and the connection string of a storage account")
    if "STAGEFLOW_STORE" in os.environ:
        main(os.environ["STAGEFLOW_STORE"], os.environ["STAGEFLOW_QUEUE"])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(f"sqlite:{folder}/stageflow.db", os.environ["STAGEFLOW_QUEUE"])
