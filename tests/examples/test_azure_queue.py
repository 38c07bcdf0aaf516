"""Messages on Azure Storage Queue, the truth in a store."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from stageflow.testing.azurite_server import AzuriteServer

RESULTS = [
    "completed",
    "{'text': '[1. Dear Ada]'}",
    "{'text': '[2. Dear Grace]'}",
    "{'text': '[3. Dear Radia]'}",
    "carried by messages: True",
]


def queue_of(azurite: AzuriteServer) -> str:
    """Name queues that no other test uses."""
    return f"azure:{azurite.connection_string}?prefix=letters-{uuid4().hex[:8]}"


def test_the_queue_carries_a_job_over_sqlite(run_example: Callable[..., list[str]], azurite: AzuriteServer) -> None:
    """Without a store of one's own it takes a file."""
    assert run_example("azure_queue.py", STAGEFLOW_QUEUE=queue_of(azurite)) == RESULTS


@pytest.mark.postgres
def test_the_queue_carries_a_job_over_postgres(
    run_example: Callable[..., list[str]],
    azurite: AzuriteServer,
    postgres_dsn: str,
) -> None:
    """The same on PostgreSQL."""
    assert run_example("azure_queue.py", STAGEFLOW_QUEUE=queue_of(azurite), STAGEFLOW_STORE=postgres_dsn) == RESULTS
