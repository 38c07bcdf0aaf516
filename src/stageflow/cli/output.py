"""What commands print: tables for people, one JSON document for programs."""

import json
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from stageflow.contracts.base import Contract
from stageflow.contracts.job import JobRecord
from stageflow.contracts.results import PAGE_SIZE
from stageflow.contracts.stage import HYDRATED_RESULTS, StageResultContract
from stageflow.insights import JobProgress
from stageflow.repositories import Repositories

_GOOD = {"completed": "green", "completed_with_errors": "yellow", "failed": "red", "cancelled": "red"}

_STATUS_WIDTH = len("completed")


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def dump(contract: Contract) -> Any:
    """Return a contract as JSON-ready data."""
    return contract.model_dump(mode="json")


def job_document(repositories: Repositories, job: JobRecord) -> dict[str, Any]:
    """Return a job as JSON-ready data; wide stages carry their first 1,000 task results."""
    document: dict[str, Any] = dump(job)
    stages = {stage.stage_number: stage for stage in repositories.stages.list_stages(job.job_id, job.run)}
    for key, result in job.stage_results.items():
        document["stage_results"][key] = _stage_document(repositories, result, stages[int(key)].stage_id)
    return document


def _stage_document(repositories: Repositories, result: StageResultContract, stage_id: int) -> dict[str, Any]:
    document: dict[str, Any] = dump(result)
    if result.results_paged:
        first = repositories.stages.list_task_results(stage_id, 0, min(PAGE_SIZE, HYDRATED_RESULTS))
        document["task_results"] = [dump(each) for each in first]
    return document


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, tight: bool = False) -> None:
    """Print a table, with less space between its columns if ``tight``; in colour on a terminal only."""
    table = Table(title=title, title_justify="left", collapse_padding=tight, pad_edge=not tight)
    for column in columns:
        table.add_column(column, overflow="fold", min_width=max(len(column), _STATUS_WIDTH if column == "status" else 0))
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    Console().print(table)


def print_progress(progress: JobProgress) -> None:
    """Print where a job stands, stage by stage."""
    print_table(
        f"{progress.job_type} {progress.job_id[:16]}: {progress.status}, stage {progress.stage} of {progress.total_stages}",
        ("stage", "name", "status", "tasks", "done", "failed", "skipped", "running", "left"),
        [
            (
                stage.stage_number,
                stage.name,
                stage.status,
                stage.task_count if stage.planned else f"{stage.task_count}+",
                stage.completed,
                stage.failed,
                stage.skipped + stage.cancelled,
                stage.running,
                stage.remaining,
            )
            for stage in progress.stages
        ],
        tight=True,  # nine columns fit into a terminal of 80
    )


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"[{_GOOD[text]}]{text}[/]" if text in _GOOD else text.replace("[", "\\[")
