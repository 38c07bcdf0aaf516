"""List a container, read every file of it in parallel, and summarise: on a local folder or in Azure Blob Storage.

Run it on files of its own making, on a folder (container ``photos`` of the folder ``/data``), or on a storage account:

    python examples/container_listing.py
    python examples/container_listing.py file:/data photos
    AZURE_STORAGE_CONNECTION_STRING=... python examples/container_listing.py azure: photos
"""

import hashlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    OrchestrationAction,
    OrchestrationDataContract,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.backends.files import FileBlobStore
from stageflow.ports import BlobStore


@cache
def open_store(url: str) -> BlobStore:
    """Return the blob store that a job's parameters name; one for all tasks of a process.

    Parameters of jobs are stored and shown, so no secret belongs into them: that comes from the worker's environment.
    """
    if url.startswith("file:"):
        return FileBlobStore(url.removeprefix("file:"))
    if url == "azure:":
        from stageflow.backends.azure import AzureBlobStore  # noqa: PLC0415  the SDK is an extra

        return AzureBlobStore.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
    msg = f"{url!r} names no blob store; use file:FOLDER or azure:"
    raise ValueError(msg)


class Container(Contract):
    """What the job is submitted with.

    Attributes:
        url: ``file:FOLDER`` or ``azure:``.
    """

    url: str
    container: str
    prefix: str = ""


class Listing(Contract):
    """What there is, in name order."""

    names: list[str]


class File(Contract):
    """What a task of stage 2 gets."""

    url: str
    container: str
    name: str


class FileReport(Contract):
    """What it returns."""

    name: str
    size_bytes: int
    lines: int
    sha256: str


class Summary(Contract):
    """What the last stage gets and the job answers."""

    files: int = 0
    size_bytes: int = 0
    lines: int = 0
    largest: str | None = None
    by_suffix: dict[str, int] = Field(default_factory=dict)


@task("container_list")
def list_container(parameters: Container, context: TaskExecutionContext) -> Listing:
    """List the blobs; a long listing stops when the job is cancelled."""
    names = []
    for blob in open_store(parameters.url).list_blobs(parameters.container, prefix=parameters.prefix):
        context.check()
        names.append(blob.name)
    return Listing(names=names)


@task("container_read")
def read_file(parameters: File, context: TaskExecutionContext) -> FileReport:
    """Read one blob, piece by piece."""
    digest, size, lines = hashlib.sha256(), 0, 0
    for piece in open_store(parameters.url).read_chunks(parameters.container, parameters.name):
        context.check()
        digest.update(piece)
        size += len(piece)
        lines += piece.count(b"\n")
    return FileReport(name=parameters.name, size_bytes=size, lines=lines, sha256=digest.hexdigest())


@task("container_summarise")
def summarise(parameters: Summary, context: TaskExecutionContext) -> Summary:
    """Pass the summary on; a real workflow would store or send it."""
    return parameters


@workflow("container_listing")
class ContainerController(BaseController[Container]):
    """List and decide, read in parallel, summarise."""

    listing = stage(1, "list", task=list_container)
    reading = stage(2, "read", task=read_file)
    summary = stage(3, "summarise", task=summarise, after=reading)

    @listing.plan
    def plan_listing(self, job: JobExecutionContext[Container]) -> Iterator[Container]:
        """Plan one listing."""
        yield job.parameters

    @listing.orchestrate
    def decide(self, job: JobExecutionContext[Container], results: StageResults[Listing]) -> OrchestrationDataContract:
        """End the job where there is nothing; otherwise read every file. Millions of files would want a planner instead."""
        names = results[0].names
        if not names:
            reason = f"container {job.parameters.container!r} holds nothing under {job.parameters.prefix!r}"
            return OrchestrationDataContract(action=OrchestrationAction.COMPLETE_JOB, reason=reason)
        return OrchestrationDataContract(
            action=OrchestrationAction.CREATE_TASKS,
            items=[{"name": name} for name in names],
            next_stage_parameters={"url": job.parameters.url, "container": job.parameters.container},
        )

    @summary.plan
    def plan_summary(self, job: JobExecutionContext[Container], reports: StageResults[FileReport]) -> Iterator[Summary]:
        """Add the reports up as they are read from the store."""
        suffixes: Counter[str] = Counter()
        size_bytes = lines = 0
        largest: FileReport | None = None
        for report in reports:
            suffixes[PurePosixPath(report.name).suffix or "none"] += 1
            size_bytes += report.size_bytes
            lines += report.lines
            if largest is None or report.size_bytes > largest.size_bytes:
                largest = report
        yield Summary(
            files=len(reports),
            size_bytes=size_bytes,
            lines=lines,
            largest=None if largest is None else largest.name,
            by_suffix=dict(suffixes),
        )

    def aggregate_job_results(
        self, job: JobExecutionContext[Container], stage_results: dict[int, StageResults[Any]]
    ) -> Summary:
        """Answer with the summary; with an empty one where the last stage was skipped."""
        number = self.summary.definition.number
        return self.summary.of(stage_results)[0] if number in stage_results else Summary()


def write_sample(folder: str) -> None:
    """Write a container ``sample`` with a few files."""
    store = FileBlobStore(folder)
    store.write("sample", "readme.txt", b"three\nshort\nlines\n", content_type="text/plain")
    store.write("sample", "tables/heights.csv", b"name,metres\nsnowdon,1085\n", content_type="text/csv")
    store.write("sample", "tables/depths.csv", b"name,metres\nwastwater,79\nwindermere,64\n", content_type="text/csv")


def main(url: str, container: str) -> None:
    """Run the job in memory; print what stage 1 decided, and the summary."""
    with Stageflow("sqlite::memory:") as app:
        job_id = app.run(ContainerController, Container(url=url, container=container)).job_id
        job = app.job(job_id)
        decision = job.stage_results["1"].orchestration
        print(job.status)
        if decision is not None:
            print(decision.action, decision.item_count)
        print(app.result(job_id))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as sample_folder:
            write_sample(sample_folder)
            main(f"file:{sample_folder}", "sample")
