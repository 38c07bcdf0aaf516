"""Azure Functions as the worker: a queue trigger for each queue, and a timer for the upkeep. No process stays alive.

The store is ``STAGEFLOW_STORE``; the queues are those of the host's own storage account, ``AzureWebJobsStorage``. Deploy this
folder with ``host.json`` and ``requirements.txt``; migrate the store once with ``stageflow migrate``.
"""

import logging
import os
from functools import cache
from typing import Any

import azure.functions as func
from workflows import Text, WordCountController

from stageflow import BaseController, JobQueueMessage, ProcessingOutcome, ProcessingResult, Stageflow, TaskQueueMessage

app = func.FunctionApp()
logger = logging.getLogger(__name__)


class BusyError(Exception):
    """Another instance has this work now; the host shows the message again later."""


@cache
def flow() -> Stageflow:
    """Return the app, made at the first message and shared by all functions of this instance."""
    return Stageflow(os.environ["STAGEFLOW_STORE"], queue=f"azure:{os.environ['AzureWebJobsStorage']}")  # noqa: SIM112  the host's name for it


def controller_of(job_type: str) -> BaseController[Any]:
    """Return the controller of a job type."""
    return flow().registry.find(job_type).controller


def acknowledge(result: ProcessingResult) -> None:
    """Announce what became ready, and end the function: normally, which deletes the message, unless another has the work.

    Raises:
        BusyError: Another instance has it.
    """
    flow().maintain()
    logger.info("%s of job %s: %s tasks", result.outcome, result.job_id, result.tasks_run)
    if result.outcome is ProcessingOutcome.LEASED:
        msg = f"job {result.job_id} is being worked on elsewhere"
        raise BusyError(msg)


@app.queue_trigger(arg_name="message", queue_name="stageflow-jobs", connection="AzureWebJobsStorage")
def job_message(message: func.QueueMessage) -> None:
    """Plan or advance a stage. A message that cannot be decoded raises; the host moves it to ``stageflow-jobs-poison``."""
    hint = JobQueueMessage.from_wire(message.get_body())
    acknowledge(controller_of(hint.job_type).process_job_queue_message(hint))


@app.queue_trigger(arg_name="message", queue_name="stageflow-tasks", connection="AzureWebJobsStorage")
def task_message(message: func.QueueMessage) -> None:
    """Run a range of tasks, and what follows at once from it."""
    hint = TaskQueueMessage.from_wire(message.get_body())
    acknowledge(controller_of(hint.job_type).process_task_queue_message(hint))


@app.timer_trigger(schedule="*/30 * * * * *", arg_name="timer")
def upkeep(timer: func.TimerRequest) -> None:
    """Take over the work of instances that died, open what is due, and announce what is ready."""
    done = flow().maintain()
    logger.info("upkeep (late: %s): %s", timer.past_due, done)


@app.route(route="word-count", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def submit(request: func.HttpRequest) -> func.HttpResponse:
    """Submit a job: one line of text a task."""
    job = flow().submit(WordCountController, Text.from_json(request.get_body())).job
    flow().maintain()
    return func.HttpResponse(job.job_id, status_code=202)
