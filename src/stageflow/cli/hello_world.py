"""HelloWorld, the workflow of the demo: greetings, then a reply to the greeting of the same index."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, TaskExecutionContext
from stageflow.contracts.results import StageResults
from stageflow.workflow.authoring import stage, task, workflow
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

demo_registry = JobRegistry()


class Hello(Contract):
    """How many greetings, and whom to greet."""

    n: int = Field(ge=0, le=1_000_000)
    name: str = "World"


class GreetingParameters(Contract):
    """One greeting to be made."""

    index: int
    name: str


class Greeting(Contract):
    """One greeting."""

    text: str


class ReplyParameters(Contract):
    """One greeting to be answered."""

    greeting: Greeting


class Reply(Contract):
    """One reply."""

    text: str


class Conversation(Contract):
    """How much was said."""

    replies: int


@task("hello_world_greeting")
def greet(parameters: GreetingParameters, context: TaskExecutionContext) -> Greeting:  # noqa: ARG001  the shape of a handler
    """Greet."""
    return Greeting(text=f"Hello {parameters.name} from task {parameters.index}!")


@task("hello_world_reply")
def reply(parameters: ReplyParameters, context: TaskExecutionContext) -> Reply:  # noqa: ARG001  the shape of a handler
    """Quote the greeting."""
    return Reply(text=f"World replies to: {parameters.greeting.text}")


@workflow("hello_world", registry=demo_registry)
class HelloWorldController(BaseController[Hello]):
    """Two stages of ``n`` tasks each; data flows from the first to the second by index."""

    greetings = stage(1, "greeting", task=greet)
    replies = stage(2, "reply", task=reply, after=greetings)

    @greetings.plan
    def plan_greetings(self, job: JobExecutionContext[Hello]) -> Iterator[GreetingParameters]:
        """Plan one greeting per index."""
        for index in range(job.parameters.n):
            yield GreetingParameters(index=index, name=job.parameters.name)

    @replies.plan
    def plan_replies(
        self,
        job: JobExecutionContext[Hello],  # noqa: ARG002  the shape of a planner
        greetings: StageResults[Greeting],
    ) -> Iterator[ReplyParameters]:
        """Plan one reply per greeting."""
        for greeting in greetings:
            yield ReplyParameters(greeting=greeting)

    def aggregate_job_results(
        self,
        job: JobExecutionContext[Hello],  # noqa: ARG002  the shape of the hook
        stage_results: dict[int, StageResults[Any]],
    ) -> Conversation:
        """Count the replies."""
        return Conversation(replies=len(self.replies.of(stage_results)))
