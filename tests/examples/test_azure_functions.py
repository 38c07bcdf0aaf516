"""The functions, called as their host calls them."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import azure.functions as func
import pytest

from stageflow import JobQueueMessage, JobRegistry, JobStatus, Stageflow, TaskQueueMessage
from stageflow.contracts.lease import ClaimOutcome, ClaimRequest
from stageflow.errors import PoisonMessageError
from stageflow.testing import move_clock
from stageflow.testing.azurite_server import AzuriteServer

FOLDER = Path(__file__).parents[2] / "examples" / "azure_functions"
MODULES = ("function_app", "workflows")


class Timer(func.TimerRequest):
    """A tick of the host's clock."""

    @property
    def past_due(self) -> bool:
        """Whether it is late."""
        return False


@pytest.fixture
def functions(azurite: AzuriteServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Give the function app, on a store and a registry of its own."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("STAGEFLOW_STORE", f"sqlite:{tmp_path}/stageflow.db")
    monkeypatch.setenv("AzureWebJobsStorage", f"{azurite.connection_string}?prefix=words-{uuid4().hex[:8]}")
    monkeypatch.setattr(JobRegistry, "_default", JobRegistry())
    module = importlib.import_module("function_app")
    flow: Stageflow = module.flow()
    flow.migrate()
    yield module
    flow.close()
    for name in MODULES:
        del sys.modules[name]


def message(hint: JobQueueMessage | TaskQueueMessage | str) -> func.QueueMessage:
    """Wrap a hint as the host does."""
    text = hint if isinstance(hint, str) else hint.to_wire()
    return func.QueueMessage(id="1", body=text.encode())


def test_messages_and_the_timer_carry_a_job_to_its_end(functions: ModuleType) -> None:
    """Every function is called directly: submit, plan, run a range that closes the stage, and so on to the answer."""
    flow: Stageflow = functions.flow()
    request = func.HttpRequest(method="POST", url="/api/word-count", body=json.dumps({"lines": ["a b", "c d e"]}).encode())
    response = functions.submit(request)
    assert response.status_code == 202
    job_id = response.get_body().decode()
    queue = flow.queue
    assert queue is not None
    kinds = []
    while not flow.job(job_id).is_terminal:
        for received in queue.receive(max_messages=16, visibility_seconds=30):
            kind = received.queue.rpartition("-")[2]
            kinds.append(kind)
            call = functions.job_message if kind == "jobs" else functions.task_message
            call(func.QueueMessage(id=received.message_id, body=received.body))
            queue.delete(received)
    assert {"jobs", "tasks"} == set(kinds)
    assert flow.job(job_id).status is JobStatus.COMPLETED
    assert flow.job(job_id).result_data == {"count": 5}
    functions.upkeep(Timer())


def test_a_message_that_comes_twice_does_nothing_twice(functions: ModuleType) -> None:
    """A duplicate is accepted, so that the host deletes it."""
    flow: Stageflow = functions.flow()
    job_id = submit(flow)
    hint = message(JobQueueMessage(job_id=job_id, job_type="word_count", stage_number=1))
    functions.job_message(hint)
    functions.job_message(hint)
    assert flow.progress(job_id).total_tasks == 1


def test_work_in_other_hands_is_not_acknowledged(functions: ModuleType) -> None:
    """The function raises, so that the host shows the message again when the other instance may have died."""
    flow: Stageflow = functions.flow()
    job_id = submit(flow)
    functions.job_message(message(JobQueueMessage(job_id=job_id, job_type="word_count", stage_number=1)))
    claim_as_a_process_that_dies(flow)
    task = TaskQueueMessage(job_id=job_id, job_type="word_count", task_type="words_count", stage_number=1, first=0, last=1)
    with pytest.raises(functions.BusyError, match="worked on elsewhere"):
        functions.task_message(message(task))
    move_clock(flow, 3600)
    functions.upkeep(Timer())
    functions.task_message(message(task))
    assert flow.progress(job_id).stages[0].completed == 1


def test_the_timer_takes_over_the_work_of_a_dead_instance(functions: ModuleType) -> None:
    """A lease that expired is ready again after the next tick, and announced again."""
    flow: Stageflow = functions.flow()
    submit(flow)
    claim_as_a_process_that_dies(flow)
    functions.upkeep(Timer())
    assert len(flow.repositories.leases.list_leases(10)) == 1
    move_clock(flow, 3600)
    functions.upkeep(Timer())
    assert flow.repositories.leases.list_leases(10) == []
    assert flow.telemetry.counts["work_announced"] == 1


def submit(flow: Stageflow) -> str:
    """Submit a job of one line."""
    found = flow.registry.find("word_count")
    return flow.submit("word_count", found.parameters_model.from_json('{"lines": ["a"]}')).job.job_id


def claim_as_a_process_that_dies(flow: Stageflow) -> None:
    """Lease what is ready, and do nothing with it."""
    work_types = flow.registry.find("word_count").work_types()
    answer = flow.repositories.leases.claim_work(
        ClaimRequest(
            worker_id="dead",
            work_types=work_types,
            max_tasks=[1] * len(work_types),
            max_leases=1,
            lease_seconds=30,
        )
    )
    assert answer.outcome is ClaimOutcome.WORK


@pytest.mark.parametrize("text", ["", "not json", '{"job_id": "x"}'])
def test_a_message_that_is_none_raises_for_the_host_to_park(functions: ModuleType, text: str) -> None:
    """The host moves it to its poison queue."""
    with pytest.raises(PoisonMessageError, match="not a JobQueueMessage"):
        functions.job_message(message(text))
    with pytest.raises(PoisonMessageError, match="not a TaskQueueMessage"):
        functions.task_message(message(text))


def test_the_functions_run_here(run_example: Callable[..., list[str]], azurite: AzuriteServer) -> None:
    """The script that plays the host carries a job to its end."""
    lines = run_example("azure_functions/run_here.py", AzureWebJobsStorage=f"{azurite.connection_string}?prefix=run-here")
    assert lines == ["completed", "9 words in 3 lines"]
