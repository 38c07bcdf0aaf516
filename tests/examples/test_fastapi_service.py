"""The web service, asked over HTTP by a client in the same process."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from stageflow import JobRegistry

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Give a client of the service, which has a store and a registry of its own and runs as long as the test."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("STAGEFLOW_STORE", f"sqlite:{tmp_path}/stageflow.db")
    monkeypatch.setattr(JobRegistry, "_default", JobRegistry())
    module = importlib.import_module("fastapi_service")
    with TestClient(module.api) as client:
        yield client
    del sys.modules["fastapi_service"]


def test_a_request_becomes_a_job_and_its_answer(client: TestClient) -> None:
    """What an async endpoint submits from a thread is worked on, and answered for when it has ended."""
    submitted = client.post("/word-counts", json={"lines": ["a b", "c d e"]})
    assert (submitted.status_code, submitted.json()["outcome"]) == (202, "created")
    place = f"/word-counts/{submitted.json()['job_id']}"
    while (answer := client.get(place)).status_code == 202:
        assert answer.json()["status"] in {"queued", "processing"}
    assert answer.json() == {"status": "completed", "answer": {"count": 5}}


def test_the_same_request_finds_the_same_job(client: TestClient) -> None:
    """A client that sends its request again gets the job it has."""
    first, second = (client.post("/word-counts", json={"lines": ["a"]}).json() for _ in range(2))
    assert (first["outcome"], second["job_id"]) == ("created", first["job_id"])
    assert second["outcome"] in {"running", "ended"}


def test_a_bad_request_and_an_unknown_job_are_the_clients_errors(client: TestClient) -> None:
    """The contract refuses what is out of range, and what is not there is 404 with the reason."""
    assert client.post("/word-counts", json={"lines": []}).status_code == 422
    unknown = client.get(f"/word-counts/{'0' * 64}")
    assert unknown.status_code == 404
    assert "0000" in unknown.json()["detail"]
