"""The container example, on a folder and on Azure Blob Storage."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from stageflow.backends.azure import AzureBlobStore
from stageflow.backends.files import FileBlobStore
from stageflow.testing.azurite_server import AzuriteServer

Run = Callable[..., list[str]]


def test_the_sample_is_listed_read_and_summarised(run_example: Run) -> None:
    """Without arguments it makes files of its own; stage 1 decided on a task each."""
    assert run_example("container_listing.py") == [
        "completed",
        "CREATE_TASKS 3",
        "files=3 size_bytes=82 lines=8 largest='tables/depths.csv' by_suffix={'.txt': 1, '.csv': 2}",
    ]


def test_a_folder_is_a_container(run_example: Run, tmp_path: Path) -> None:
    """Files that are there are listed and read."""
    store = FileBlobStore(tmp_path)
    store.write("photos", "a.txt", b"one\ntwo\n")
    store.write("photos", "b/long.csv", b"1,2\n3,4\n5,6\n")
    store.write("photos", "c", b"")
    assert run_example("container_listing.py", f"file:{tmp_path}", "photos") == [
        "completed",
        "CREATE_TASKS 3",
        "files=3 size_bytes=20 lines=5 largest='b/long.csv' by_suffix={'.txt': 1, '.csv': 1, 'none': 1}",
    ]


def test_an_empty_container_completes_the_job(run_example: Run, tmp_path: Path) -> None:
    """Nothing to read is no error: stage 1 ends the job."""
    (tmp_path / "photos").mkdir()
    assert run_example("container_listing.py", f"file:{tmp_path}", "photos") == [
        "completed",
        "COMPLETE_JOB 0",
        "files=0 size_bytes=0 lines=0 largest=None by_suffix={}",
    ]


@pytest.mark.parametrize("is_empty", [False, True], ids=["full", "empty"])
def test_a_container_of_a_storage_account(run_example: Run, azurite: AzuriteServer, *, is_empty: bool) -> None:
    """The same workflow reads Azure Blob Storage; the secret stays in the environment."""
    store = AzureBlobStore.from_connection_string(azurite.connection_string)
    container = f"photos-{uuid4().hex[:12]}"
    store.write(container, "a.txt", b"one\ntwo\n")
    store.write(container, "d/wide.txt", b"x" * 5000)
    if is_empty:
        for blob in list(store.list_blobs(container)):
            store.delete(container, blob.name)
    store.close()
    lines = run_example("container_listing.py", "azure:", container, AZURE_STORAGE_CONNECTION_STRING=azurite.connection_string)
    if is_empty:
        assert lines[:2] == ["completed", "COMPLETE_JOB 0"]
    else:
        assert lines == [
            "completed",
            "CREATE_TASKS 2",
            "files=2 size_bytes=5008 lines=2 largest='d/wide.txt' by_suffix={'.txt': 2}",
        ]
