"""A web service that submits jobs and answers for them: FastAPI, with a worker in the same process.

The API of stageflow waits for the store, so async code calls it in a thread. The store is ``STAGEFLOW_STORE``; run it with
``uvicorn --app-dir examples fastapi_service:api``, and start more workers elsewhere with ``stageflow worker``.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobNotFoundError,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)


class WordCount(Contract):
    """What a client asks for."""

    lines: list[str] = Field(min_length=1, max_length=10_000)


class Line(Contract):
    """What a task gets."""

    text: str


class Words(Contract):
    """How many there are: in a line, and in all."""

    count: int


@task("fastapi_count_words")
def count_words(parameters: Line, context: TaskExecutionContext) -> Words:
    """Count the words of a line."""
    return Words(count=len(parameters.text.split()))


@workflow("fastapi_word_count")
class WordCountController(BaseController[WordCount]):
    """Counts the words of each line, then adds them up."""

    words = stage(1, "words", task=count_words)

    @words.plan
    def plan_words(self, job: JobExecutionContext[WordCount]) -> Iterator[Line]:
        """Plan a task for each line."""
        yield from (Line(text=line) for line in job.parameters.lines)

    def aggregate_job_results(self, job: JobExecutionContext[WordCount], stage_results: dict[int, StageResults[Any]]) -> Words:
        """Answer with the sum."""
        return Words(count=sum(words.count for words in self.words.of(stage_results)))


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Open the store and work on its jobs as long as the service runs."""
    with Stageflow(os.environ["STAGEFLOW_STORE"]) as flow:
        await asyncio.to_thread(flow.migrate)
        worker = flow.worker()
        await asyncio.to_thread(worker.start)
        api.state.flow = flow
        try:
            yield
        finally:
            await asyncio.to_thread(worker.stop)


api = FastAPI(lifespan=lifespan)


@api.post("/word-counts", status_code=202)
async def submit(request: WordCount) -> dict[str, str]:
    """Submit a job; the same request finds the same job."""
    flow: Stageflow = api.state.flow
    submission = await asyncio.to_thread(flow.submit, WordCountController, request)
    return {"job_id": submission.job.job_id, "outcome": submission.outcome}


@api.get("/word-counts/{job_id}")
async def status(job_id: str, response: Response) -> dict[str, object]:
    """Tell how far a job is, or what it came to."""
    flow: Stageflow = api.state.flow
    try:
        job = await asyncio.to_thread(flow.job, job_id)
    except JobNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    if not job.is_terminal:
        response.status_code = 202
    return {"status": job.status, "answer": job.result_data}
