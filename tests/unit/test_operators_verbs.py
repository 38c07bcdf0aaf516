"""What operators do to dead letters and task types: what they get, what is told of it, and the words of each refusal."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from stageflow import (
    BaseController,
    Contract,
    DeadLetter,
    DeadLetterNotFoundError,
    DeadLetterState,
    InvalidTransitionError,
    InvalidValueError,
    JobExecutionContext,
    JobQueueMessage,
    JobRegistry,
    Stageflow,
    TaskExecutionContext,
    TaskQueueMessage,
    TaskTypeState,
    stage,
    task,
    workflow,
)
from stageflow.contracts.dead_letter import NewDeadLetter
from stageflow.contracts.queue import ReceivedMessage
from stageflow.engine.messages import decode_message
from stageflow.errors import PoisonMessageError
from stageflow.telemetry import Event
from stageflow.testing.drain import drain_work, move_clock
from tests.memory_queue import JOBS, TASKS, MemoryQueue

registry = JobRegistry()


class Nothing(Contract):
    """Job and task parameters."""


@task("load")
def load(parameters: Nothing, context: TaskExecutionContext) -> None:
    """Do nothing."""


@task("keep")
def keep(parameters: Nothing, context: TaskExecutionContext) -> None:
    """Do nothing."""


@workflow("one", registry=registry)
class One(BaseController[Nothing]):
    """Two stages."""

    loads = stage(1, "loads", task=load)
    keeps = stage(2, "keeps", task=keep)

    @loads.plan
    def plan_loads(self, job: JobExecutionContext[Nothing]) -> Iterator[Nothing]:
        """Plan one task."""
        yield job.parameters

    @keeps.plan
    def plan_keeps(self, job: JobExecutionContext[Nothing]) -> Iterator[Nothing]:
        """Plan one task."""
        yield job.parameters


@workflow("two", registry=registry)
class Two(One):
    """The same under another name."""


@pytest.fixture
def queue() -> MemoryQueue:
    """Give an empty queue."""
    return MemoryQueue()


@pytest.fixture
def app(queue: MemoryQueue) -> Iterator[Stageflow]:
    """Give an app in memory with a queue."""
    with Stageflow("sqlite::memory:", registry=registry, queue=queue) as app:
        yield app


@pytest.fixture
def events(app: Stageflow) -> Iterator[list[Event]]:
    """Note all events."""
    heard: list[Event] = []
    with app.telemetry.listening(heard.append):
        yield heard


def park(app: Stageflow, number: int = 1, queue: str = TASKS) -> DeadLetter:
    """Park a message, as a worker does."""
    new = NewDeadLetter(queue=queue, message_id=str(number), body=b"\xff %d" % number, reason="not JSON", delivery_count=1)
    return app.repositories.store.add_dead_letter(new)


def put_away(app: Stageflow, letter_id: int) -> None:
    """Discard a letter and purge it."""
    app.discard(letter_id)
    move_clock(app, 10)
    app.purge(timedelta(seconds=9), dry_run=False)


def refusal(kind: type[Exception], act: Callable[[], object]) -> str:
    """Return how something is refused."""
    with pytest.raises(kind) as caught:
        act()
    return str(caught.value)


def test_letters_are_read_in_pages_of_at_most_a_thousand(app: Stageflow) -> None:
    """Oldest first, after the last of the page before, in the state that was asked for."""
    letters = [park(app, number) for number in range(3)]
    discarded = app.discard(letters[1].letter_id)
    assert app.dead_letters(limit=1) == letters[:1]
    assert app.dead_letters(limit=1000, after=letters[0].letter_id) == letters[2:]
    assert app.dead_letters(state=DeadLetterState.DISCARDED) == [discarded]
    assert app.dead_letters(state=None) == [letters[0], discarded, letters[2]]
    for limit in (-1, 0, 1001):
        said = refusal(InvalidValueError, lambda limit=limit: app.dead_letters(limit=limit))  # type: ignore[misc]
        assert said == f"limit must be 1 to 1000, got {limit}; ask for the next page with after="


def test_a_letter_is_found_by_its_own_id_only(app: Stageflow) -> None:
    """The first is, and in place of one that is gone no other is shown."""
    first, second = park(app, 1), park(app, 2)
    assert (first.letter_id, second.letter_id) == (1, 2)
    assert [app.dead_letter(1), app.dead_letter(2)] == [first, second]
    put_away(app, 1)
    for letter_id in (1, 0, 3, 2**63):
        said = refusal(DeadLetterNotFoundError, lambda letter_id=letter_id: app.dead_letter(letter_id))  # type: ignore[misc]
        assert said == f"there is no dead letter {letter_id}; list them with `stageflow letters list`"


@pytest.mark.parametrize("name", [JOBS, TASKS])
def test_a_requeued_letter_goes_to_the_queue_it_came_from(
    app: Stageflow, queue: MemoryQueue, events: list[Event], name: str
) -> None:
    """Byte for byte and once: then it is requeued, and stays so."""
    letter = park(app, queue=name)
    requeued = app.requeue(letter.letter_id)
    assert requeued == letter.model_copy(update={"state": DeadLetterState.REQUEUED})
    assert app.dead_letter(letter.letter_id) == requeued
    assert events == [Event(name="letter_requeued", details={"letter_id": letter.letter_id, "queue": name})]
    said = "dead letter 1 is requeued and cannot become {}; allowed: nothing, only an open letter is requeued or discarded"
    assert refusal(InvalidTransitionError, lambda: app.requeue(1)) == said.format("requeued")
    assert refusal(InvalidTransitionError, lambda: app.discard(1)).startswith("dead letter 1 is requeued")
    assert [(each.queue, each.body) for each in queue.receive(max_messages=9, visibility_seconds=9)] == [(name, b"\xff 1")]
    assert len(events) == 1


def test_a_discarded_letter_is_told_and_never_sent(app: Stageflow, queue: MemoryQueue, events: list[Event]) -> None:
    """Its bytes are kept."""
    letter = park(app)
    assert app.discard(letter.letter_id) == letter.model_copy(update={"state": DeadLetterState.DISCARDED})
    assert events == [Event(name="letter_discarded", details={"letter_id": letter.letter_id, "queue": TASKS})]
    assert refusal(InvalidTransitionError, lambda: app.requeue(1)).startswith("dead letter 1 is discarded")
    assert queue.probe() == 0


def test_a_letter_from_elsewhere_stays_open(app: Stageflow, queue: MemoryQueue, events: list[Event]) -> None:
    """Where there is no queue of its name, or none at all."""
    letter = park(app, queue="elsewhere")
    assert refusal(InvalidValueError, lambda: app.requeue(1)) == (
        f"there is no queue 'elsewhere' at memory:, which has {JOBS}, {TASKS}; connect to the queues it came from"
    )
    with Stageflow("sqlite::memory:", registry=registry) as without_queue:
        park(without_queue)
        assert refusal(InvalidValueError, lambda: without_queue.requeue(1)) == (
            f"dead letter 1 came from the queue {TASKS!r}, and there is none here to send it to; name it with --queue, or with "
            "Stageflow(queue=...)"
        )
        assert [each.state for each in without_queue.dead_letters()] == [DeadLetterState.OPEN]
    assert app.dead_letters() == [letter]
    assert (events, queue.probe()) == ([], 0)


class Crowded(MemoryQueue):
    """A queue during whose requests other operators work."""

    meanwhile: Callable[[], object]

    def resend(self, queue: str, body: bytes) -> None:
        """Send, while others do what they do."""
        super().resend(queue, body)
        self.meanwhile()


def test_a_letter_that_goes_while_it_is_sent_is_told_as_gone(events: list[Event]) -> None:
    """Its message was sent, which changes nothing; who lost says so and tells of no success."""
    queue = Crowded()
    with Stageflow("sqlite::memory:", registry=registry, queue=queue) as app, app.telemetry.listening(events.append):
        park(app, 1)
        park(app, 2)
        queue.meanwhile = lambda: put_away(app, 1)
        assert refusal(DeadLetterNotFoundError, lambda: app.requeue(1)).startswith("there is no dead letter 1; ")
        queue.meanwhile = lambda: app.discard(2)
        assert refusal(InvalidTransitionError, lambda: app.requeue(2)).startswith("dead letter 2 is discarded")
        assert [event.name for event in events if event.name.startswith("letter_")] == ["letter_discarded"] * 2
        assert queue.probe() == 2


def delivered(body: bytes, decode_error: str | None = None) -> ReceivedMessage:
    """Return a delivery of some bytes."""
    return ReceivedMessage(
        queue=TASKS,
        message_id="1",
        body=body,
        receipt="1",
        delivery_count=1,
        inserted_at=datetime(2026, 1, 1, tzinfo=UTC),
        decode_error=decode_error,
    )


def test_a_delivery_is_decoded_to_the_message_that_was_sent() -> None:
    """Of either kind."""
    job = JobQueueMessage(job_id="a" * 64, job_type="one", stage_number=2)
    tasks = TaskQueueMessage(job_id="a" * 64, job_type="one", task_type="load", stage_number=1, first=3, last=5)
    assert decode_message(delivered(job.to_wire().encode())) == job
    assert decode_message(delivered(tasks.to_wire().encode())) == tasks


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (delivered(b"{}", "not base64"), "the transport encoding could not be undone: not base64"),
        (
            delivered(b'{"kind":"job","wire_version":2}'),
            "not a message of stageflow of wire version 1: job.wire_version: Input should be 1",
        ),
        (
            delivered(b'{"kind":"other"}'),
            (
                "not a message of stageflow of wire version 1: Input tag 'other' found using 'kind' does not match any of the "
                "expected tags: 'job', 'task'"
            ),
        ),
        (
            delivered(b'{"kind":"job","kind":"task"}'),
            "the fields of the message name the key 'kind' twice in one object; keep one of the two",
        ),
    ],
)
def test_what_is_no_message_is_poison_for_a_reason(message: ReceivedMessage, said: str) -> None:
    """The reason is what is kept with its letter."""
    assert refusal(PoisonMessageError, lambda: decode_message(message)) == said


def known(app: Stageflow) -> list[TaskTypeState]:
    """Return what is known of the task types."""
    return app.task_types()


def idle(job_type: str, task_type: str, **what: object) -> TaskTypeState:
    """Return a task type without work."""
    return TaskTypeState.from_fields({"job_type": job_type, "task_type": task_type, **what})


def test_the_types_of_code_and_store_are_listed_by_name(app: Stageflow) -> None:
    """What the store knows of one is shown in place of the bare name; what only the store knows is shown too."""
    assert known(app) == [idle("one", "keep"), idle("one", "load"), idle("two", "keep"), idle("two", "load")]
    app.limit_task_type("one", "load", max_running=3)
    limited = idle("one", "load", max_running=3, overridden=True)
    assert known(app) == [idle("one", "keep"), limited, idle("two", "keep"), idle("two", "load")]
    with Stageflow("sqlite::memory:", registry=JobRegistry()) as foreign:
        assert foreign.task_types() == []


def test_a_limit_holds_for_its_own_type_and_is_taken_back(app: Stageflow) -> None:
    """Both of its numbers; each verb answers with the state that holds after it, whether the store has one or not."""
    assert app.reset_task_type("two", "load") == idle("two", "load")
    assert app.resume_task_type("two", "keep") == idle("two", "keep")
    state = app.limit_task_type("two", "load", max_running=3, max_per_second=0.5)
    assert (state.job_type, state.task_type, state.max_running, state.max_per_second) == ("two", "load", 3, 0.5)
    app.limit_task_type("two", "keep", max_per_second=2)
    app.limit_task_type("one", "load", max_running=4)
    limits = [(each.job_type, each.task_type, each.max_running, each.max_per_second) for each in known(app)]
    assert limits == [
        ("one", "keep", None, None),
        ("one", "load", 4, None),
        ("two", "keep", None, 2.0),
        ("two", "load", 3, 0.5),
    ]
    state = app.reset_task_type("two", "load")
    assert (state.job_type, state.task_type, state.max_running, state.overridden) == ("two", "load", None, False)
    assert [each.max_running for each in known(app)] == [None, 4, None, None]


def test_a_pause_holds_for_its_own_type_and_is_taken_back(app: Stageflow) -> None:
    """The others go on; work that waits is shown with its type."""
    for job_type in ("one", "two"):
        state = app.pause_task_type(job_type, "load")
        assert (state.job_type, state.task_type, state.paused_since is None) == (job_type, "load", False)
    app.submit(Two, Nothing())
    drain_work(app)
    assert [(each.job_type, each.ready) for each in known(app) if each.task_type == "load"] == [("one", 0), ("two", 1)]
    state = app.resume_task_type("two", "load")
    assert (state.job_type, state.task_type, state.paused_since, state.ready) == ("two", "load", None, 1)
    drain_work(app)
    assert [each.paused_since is None for each in known(app)] == [True, False, True, True]


def test_each_verb_is_told_with_what_it_was_done_to(app: Stageflow, events: list[Event]) -> None:
    """And with the limits, where it sets them."""
    app.limit_task_type("two", "load", max_running=3, max_per_second=0.5)
    app.reset_task_type("two", "load")
    app.pause_task_type("two", "load")
    app.resume_task_type("two", "load")
    kind = {"job_type": "two", "task_type": "load"}
    assert events == [
        Event(name="task_type_limited", details={**kind, "max_running": 3, "max_per_second": 0.5}),
        Event(name="task_type_reset", details={**kind}),
        Event(name="task_type_paused", details={**kind}),
        Event(name="task_type_resumed", details={**kind}),
    ]


def test_a_misspelt_type_is_refused_with_those_that_are_known(app: Stageflow, events: list[Event]) -> None:
    """By every verb, and nothing changes; where nothing is known, any name is taken."""
    said = (
        "no task type 'two/lode' is registered or has work; nothing changed. Known: one/keep, one/load, two/keep, two/load. "
        "Correct the name, or name the workflows with --app"
    )
    for act in (app.limit_task_type, app.reset_task_type, app.pause_task_type, app.resume_task_type):
        assert refusal(InvalidValueError, lambda act=act: act("two", "lode")) == said  # type: ignore[misc]
        refused = refusal(InvalidValueError, lambda act=act: act("two", "Load"))  # type: ignore[misc]
        assert refused.startswith("task_type: String should match pattern ")
        assert refused.endswith(", got 'Load'; nothing changed, correct it")
        assert refusal(InvalidValueError, lambda act=act: act("Two", "load")).startswith("job_type: ")  # type: ignore[misc]
    assert (events, [each.paused_since for each in known(app)]) == ([], [None] * 4)
    with Stageflow("sqlite::memory:", registry=JobRegistry()) as foreign:
        assert foreign.limit_task_type("any", "name", max_running=2).max_running == 2


def test_a_limit_out_of_range_is_refused_by_its_name(app: Stageflow, events: list[Event]) -> None:
    """With what was given, and nothing changes."""
    said = "max_running: Input should be greater than or equal to 1, got 0; nothing changed, correct it"
    assert refusal(InvalidValueError, lambda: app.limit_task_type("one", "load", max_running=0)) == said
    said = "max_per_second: Input should be less than or equal to 100000, got 100001.0; nothing changed, correct it"
    assert refusal(InvalidValueError, lambda: app.limit_task_type("one", "load", max_per_second=100_001.0)) == said
    assert (events, known(app)[1]) == ([], idle("one", "load"))
