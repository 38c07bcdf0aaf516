"""The workflow that the functions carry: count the words of each line, then add."""

from collections.abc import Iterator

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)


class Text(Contract):
    """What the job is submitted with."""

    lines: list[str]


class Line(Contract):
    """What a task of stage 1 gets."""

    text: str


class Words(Contract):
    """A number of words."""

    count: int


@task("words_count")
def count_words(parameters: Line, context: TaskExecutionContext) -> Words:
    """Count the words of a line."""
    return Words(count=len(parameters.text.split()))


@task("words_total")
def pass_on(parameters: Words, context: TaskExecutionContext) -> Words:
    """Pass the total on."""
    return parameters


@workflow("word_count")
class WordCountController(BaseController[Text]):
    """Count in parallel, then add."""

    counting = stage(1, "count", task=count_words)
    adding = stage(2, "add", task=pass_on, after=counting)

    @counting.plan
    def plan_counting(self, job: JobExecutionContext[Text]) -> Iterator[Line]:
        """Plan one task a line."""
        for line in job.parameters.lines:
            yield Line(text=line)

    @adding.plan
    def plan_adding(self, job: JobExecutionContext[Text], counts: StageResults[Words]) -> Iterator[Words]:
        """Plan the sum."""
        yield Words(count=sum(words.count for words in counts))

    def aggregate_job_results(self, job: JobExecutionContext[Text], stage_results: dict[int, StageResults[Words]]) -> Words:
        """Answer with the sum."""
        return self.adding.of(stage_results)[0]
