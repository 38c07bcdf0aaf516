"""Two stages: n greetings, then a reply to each. Run it: python examples/hello_world.py [n]."""

import sys
from collections.abc import Iterator

from pydantic import Field

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)


class Hello(Contract):
    """What the job is submitted with."""

    n: int = Field(ge=1, le=100)
    name: str = "World"


class GreetingParameters(Contract):
    """What a task of stage 1 gets."""

    index: int
    name: str


class Greeting(Contract):
    """What it returns."""

    text: str


class ReplyParameters(Contract):
    """What a task of stage 2 gets."""

    greeting: Greeting


class Reply(Contract):
    """What it returns."""

    text: str


@task("hello_world_greeting")
def greet(parameters: GreetingParameters, context: TaskExecutionContext) -> Greeting:
    """Greet."""
    return Greeting(text=f"Hello {parameters.name} from task {parameters.index}!")


@task("hello_world_reply")
def reply(parameters: ReplyParameters, context: TaskExecutionContext) -> Reply:
    """Reply to one greeting."""
    return Reply(text=f"World replies to: {parameters.greeting.text}")


@workflow("hello_world")
class HelloWorldController(BaseController[Hello]):
    """Fans out over n greetings, and again over what they returned."""

    greetings = stage(1, "greeting", task=greet)
    replies = stage(2, "reply", task=reply, after=greetings)

    @greetings.plan
    def plan_greetings(self, job: JobExecutionContext[Hello]) -> Iterator[GreetingParameters]:
        """Plan n greetings."""
        for index in range(job.parameters.n):
            yield GreetingParameters(index=index, name=job.parameters.name)

    @replies.plan
    def plan_replies(self, job: JobExecutionContext[Hello], greetings: StageResults[Greeting]) -> Iterator[ReplyParameters]:
        """Plan a reply to each greeting: its index is the greeting's."""
        for greeting in greetings:
            yield ReplyParameters(greeting=greeting)


def main(n: int) -> None:
    """Run the job in memory and print every reply."""
    with Stageflow("sqlite::memory:") as app:
        answer = app.run(HelloWorldController, Hello(n=n))
    print(answer.status)
    for result in answer.stage_results["2"].task_results:
        print(result.result_data)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
