"""Plays the host for the functions beside it: receives messages, calls the functions, deletes what they accepted.

    AzureWebJobsStorage="$AZURE_STORAGE_CONNECTION_STRING" python examples/azure_functions/run_here.py

Azure runs ``function_app.py`` without this file. ``STAGEFLOW_STORE`` names the store; a file that is deleted again where it
is not set.
"""

import os
import sys
import tempfile

import azure.functions as func
import function_app
from workflows import Text, WordCountController, Words

from stageflow.ports import Queue

CALLS = {"jobs": function_app.job_message, "tasks": function_app.task_message}
LINES = ["the quick brown fox", "jumps over", "the lazy dog"]


def host_once(queue: Queue) -> None:
    """Do what the host does: hand each message to the function that its queue triggers."""
    for received in queue.receive(max_messages=16, visibility_seconds=30):
        kind = received.queue.rpartition("-")[2]
        CALLS[kind](func.QueueMessage(id=received.message_id, body=received.body))
        queue.delete(received)


def main() -> None:
    """Submit a job, and be its host until it has ended."""
    flow = function_app.flow()
    queue = flow.queue
    if queue is None:
        msg = "the functions need a queue"
        raise RuntimeError(msg)
    flow.migrate()
    job_id = flow.submit(WordCountController, Text(lines=LINES), new_run=True).job.job_id
    flow.maintain()
    while not flow.job(job_id).is_terminal:
        host_once(queue)
    words = flow.result(job_id, Words)
    print(flow.job(job_id).status)
    print(f"{words.count} words in {len(LINES)} lines")
    flow.close()


if __name__ == "__main__":
    if "AzureWebJobsStorage" not in os.environ:
        sys.exit("set AzureWebJobsStorage to the connection string of a storage account")
    if "STAGEFLOW_STORE" in os.environ:
        main()
    else:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["STAGEFLOW_STORE"] = f"sqlite:{folder}/stageflow.db"
            main()
