"""What a controller does by default, what it hands over, and which overrides it refuses."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext, TaskExecutionContext
from stageflow.contracts.job import JobRecord
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.orchestration import OrchestrationAction, OrchestrationDataContract
from stageflow.contracts.processing import ProcessingOutcome, ProcessingResult
from stageflow.contracts.results import ResultRow, StageResults
from stageflow.contracts.stage import StageAggregate, StageResultContract
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.contracts.task import TaskDefinition, TaskResult
from stageflow.errors import (
    ContractViolationError,
    OrchestrationError,
    StageResultsMissingError,
    UnboundControllerError,
    WorkflowDefinitionError,
)
from stageflow.workflow.authoring import Keyed, stage, task
from stageflow.workflow.controller import BaseController
from stageflow.workflow.current import current_job
from stageflow.workflow.registry import JobRegistry

JOB = "a" * 64
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Letters(Contract):
    """Parameters of the job."""

    word: str


class Letter(Contract):
    """Parameters of a task."""

    letter: str
    place: int = 0


class Code(Contract):
    """Result of a task."""

    code: int


class Sum(Contract):
    """What a stage says of itself."""

    total: int


@task("encode")
def encode(parameters: Letter, context: TaskExecutionContext) -> Code:
    """Encode a letter."""
    context.check()
    return Code(code=ord(parameters.letter))


@task("decode")
def decode(parameters: Code, context: TaskExecutionContext) -> None:
    """Decode a letter."""
    context.check()
    assert chr(parameters.code)


class Cipher(BaseController[Letters]):
    """Uses every declared method."""

    codes = stage(1, "code", task=encode)
    letters = stage(2, "letter", task=decode, after=codes)
    extra = stage(3, "extra", task=encode, after=(codes, letters), may_skip=True)
    orchestrated = stage(4, "orchestrated", task=encode)

    @codes.plan
    def plan_codes(self, job: JobExecutionContext[Letters]) -> Iterator[Keyed[Letter]]:
        """Plan with keys."""
        for place, letter in enumerate(job.parameters.word):
            yield Keyed(parameters=Letter(letter=letter, place=place), key=f"{job.run}/{place}")

    @codes.aggregate
    def sum_up(self, job: JobExecutionContext[Letters], results: StageResults[Code]) -> Sum:
        """Add the codes."""
        return Sum(total=sum(code.code for code in results) + len(job.parameters.word))

    @codes.should_advance
    def is_long(self, job: JobExecutionContext[Letters], stage: StageExecutionContext) -> bool:
        """Go on with long words only."""
        return len(job.parameters.word) > stage.result.failed_tasks + 1

    @letters.plan
    def plan_letters(self, job: JobExecutionContext[Letters], codes: StageResults[Code]) -> list[Code]:
        """Plan from the stage before, all at once."""
        return [code for code in codes if code.code and job.job_type]

    @extra.plan
    def plan_extra(
        self,
        job: JobExecutionContext[Letters],
        codes: StageResults[Code] | None,
        letters: StageResults[None] | None,
    ) -> Iterator[Letter]:
        """Plan whatever was skipped."""
        skipped = f"{codes is None} {letters is None}"
        yield Letter(letter=skipped, place=len(job.stage_results))

    @extra.orchestrate
    def decide(self, job: JobExecutionContext[Letters], results: StageResults[Code]) -> OrchestrationDataContract | None:
        """Decide by the number of results."""
        if not len(results):
            return None
        return OrchestrationDataContract(action=OrchestrationAction.CREATE_TASKS, items=[{"letter": job.parameters.word}])


@pytest.fixture
def cipher() -> Cipher:
    """Return a registered controller."""
    controller = JobRegistry().register(Cipher, "cipher").controller
    assert isinstance(controller, Cipher)
    return controller


def results_of(number: int, *codes: int) -> StageResults[Any]:
    """Return results of a stage that encoded."""
    rows = [
        ResultRow(
            task_index=index, attempt=1, status=TaskStatus.COMPLETED, result=Code(code=code).to_json(), error_details=None
        )
        for index, code in enumerate(codes)
    ]
    return StageResults(
        stage_number=number,
        model=Code,
        task_count=len(rows),
        successful_tasks=len(rows),
        load=lambda first, limit, _: rows[first : first + limit],
    )


def job_context(word: str = "ab") -> JobExecutionContext[Letters]:
    """Return the context of a job in its second run, whose first stage is closed."""
    return JobExecutionContext(
        job_id=JOB,
        job_type="cipher",
        run=2,
        total_stages=4,
        parameters=Letters(word=word),
        stage_results={"1": StageResultContract.from_task_results(1, [], completed_at=NOW)},
    )


def stage_context(number: int, status: TaskStatus = TaskStatus.COMPLETED) -> StageExecutionContext:
    """Return the context of a stage with one task, which ended so."""
    ended = TaskResult(
        task_id=f"{JOB}-{number}-0",
        job_id=JOB,
        stage_number=number,
        task_index=0,
        task_type="encode",
        status=status,
        error_details=None if status is TaskStatus.COMPLETED else "it broke",
        completed_at=NOW,
    )
    result = StageResultContract.from_task_results(number, [ended])
    return StageExecutionContext(job_id=JOB, job_type="cipher", stage_number=number, name="a", result=result)


def test_the_planner_of_a_stage_gives_its_tasks(cipher: Cipher) -> None:
    """What a planner yields becomes a task definition, unnumbered, of the right job, stage and task type."""
    with current_job(job_context()):
        tasks = list(cipher.create_stage_tasks(1, JOB, Letters(word="ab"), {}))
    assert [(planned.key, planned.parameters) for planned in tasks] == [
        ("2/0", Letter(letter="a", place=0)),
        ("2/1", Letter(letter="b", place=1)),
    ]
    assert {(planned.job_id, planned.job_type, planned.task_type, planned.stage_number) for planned in tasks} == {
        (JOB, "cipher", "encode", 1)
    }


def test_a_planner_is_read_lazily(cipher: Cipher) -> None:
    """A planner of millions of tasks never holds them all."""
    tasks = cipher.create_stage_tasks(1, JOB, Letters(word="ab"), {})
    assert next(tasks).key == "1/0"


def test_a_planner_gets_the_results_of_the_stages_it_follows(cipher: Cipher) -> None:
    """Data flows from stage to stage by the numbers in ``after``."""
    tasks = cipher.create_stage_tasks(2, JOB, Letters(word="ab"), {1: results_of(1, 97, 98)})
    assert [planned.parameters for planned in tasks] == [Code(code=97), Code(code=98)]


def test_a_planner_that_may_skip_gets_none_for_a_skipped_stage(cipher: Cipher) -> None:
    """A skipped stage is told apart from one without results."""
    (planned,) = cipher.create_stage_tasks(3, JOB, Letters(word="ab"), {1: results_of(1)})
    assert planned.parameters.letter == "False True"


def test_a_planner_that_may_not_skip_fails_when_its_stage_was_skipped(cipher: Cipher) -> None:
    """A planner never runs on results that are not there."""
    with pytest.raises(OrchestrationError, match=r"Cipher\.letters takes the results of stage 1, .*may_skip=True"):
        cipher.create_stage_tasks(2, JOB, Letters(word="ab"), {})


def test_a_stage_without_planner_needs_an_orchestration(cipher: Cipher) -> None:
    """A stage is never silently empty."""
    with pytest.raises(OrchestrationError, match="has no planner and was given no tasks by an orchestration"):
        cipher.create_stage_tasks(4, JOB, Letters(word="ab"), {})


def test_a_planner_sees_the_job_that_the_engine_made_current(cipher: Cipher) -> None:
    """Run number and stage results reach the planner, though the hook's parameters do not carry them."""
    job = job_context()
    with current_job(job):
        (known,) = cipher.create_stage_tasks(3, JOB, job.parameters, {})
        (other_parameters,) = cipher.create_stage_tasks(3, JOB, Letters(word="c"), {})
        (other_job,) = cipher.create_stage_tasks(3, "b" * 64, job.parameters, {})
    (outside,) = cipher.create_stage_tasks(3, JOB, job.parameters, {})
    places = [planned.parameters.place for planned in (known, other_parameters, other_job, outside)]
    assert places == [1, 1, 0, 0]


def test_a_hook_may_pass_other_parameters_to_the_default(cipher: Cipher) -> None:
    """An override that adjusts the parameters is heard."""
    with current_job(job_context("ab")):
        tasks = list(cipher.create_stage_tasks(1, JOB, Letters(word="xyz"), {}))
    assert [planned.key for planned in tasks] == ["2/0", "2/1", "2/2"]


@pytest.mark.parametrize(
    ("planner", "path"),
    [
        (lambda *_: [Letter(letter="a"), Code(code=1)], r"yielded\[1\] must be Letter, got Code"),
        (lambda *_: [{"letter": "a"}], r"yielded\[0\] must be Letter, got dict"),
        (lambda *_: None, "return value must be Iterable, got NoneType"),
    ],
)
def test_a_planner_that_yields_something_else_is_a_contract_violation(
    monkeypatch: pytest.MonkeyPatch, cipher: Cipher, planner: Callable[..., Any], path: str
) -> None:
    """A wrong value stops at the planner that made it, and is named by its place."""
    monkeypatch.setattr(Cipher, "plan_codes", planner)
    with pytest.raises(ContractViolationError, match=rf"test_controller:<lambda>, .*{path}"):
        list(cipher.create_stage_tasks(1, JOB, Letters(word="ab"), {}))


def test_an_unregistered_controller_says_so() -> None:
    """A controller made by hand has no job type to plan for."""
    with pytest.raises(WorkflowDefinitionError, match="Cipher is not registered"):
        Cipher().create_stage_tasks(1, JOB, Letters(word="ab"), {})


def test_orchestration_items_become_tasks_with_the_shared_parameters(cipher: Cipher) -> None:
    """The parameters of a task are the shared ones and the item's, validated by the stage's model."""
    orchestration = OrchestrationDataContract(
        action=OrchestrationAction.CREATE_TASKS,
        items=[{"letter": "x"}, {"letter": "y"}],
        next_stage_parameters={"place": 7},
    )
    tasks = list(cipher.create_tasks_from_orchestration(4, JOB, Letters(word="ab"), orchestration))
    assert [planned.parameters for planned in tasks] == [Letter(letter="x", place=7), Letter(letter="y", place=7)]
    assert {(planned.stage_number, planned.task_type) for planned in tasks} == {(4, "encode")}


@pytest.mark.parametrize(
    ("second_item", "complaint"),
    [
        ({"letter": "y", "place": 1}, r"item 1 for stage 4 and next_stage_parameters both hold \['place'\]"),
        ({"letter": 1}, "item 1 for stage 4 is no Letter: letter: Input should be a valid string"),
        ({}, "item 1 for stage 4 is no Letter: letter: Field required"),
    ],
)
def test_a_wrong_orchestration_item_is_named(cipher: Cipher, second_item: dict[str, Any], complaint: str) -> None:
    """The error names the item by its index, and the field."""
    orchestration = OrchestrationDataContract(
        action=OrchestrationAction.CREATE_TASKS,
        items=[{"letter": "x"}, second_item],
        next_stage_parameters={"place": 7},
    )
    with pytest.raises(OrchestrationError, match=complaint):
        list(cipher.create_tasks_from_orchestration(4, JOB, Letters(word="ab"), orchestration))


def test_declared_methods_give_metadata_and_orchestration(cipher: Cipher) -> None:
    """What the declared methods return becomes part of the stage's result; what is not declared stays empty."""
    job = job_context()
    assert cipher.aggregate_stage_results(job, stage_context(1), results_of(1, 5, 6)) == StageAggregate(metadata={"total": 13})
    assert cipher.aggregate_stage_results(job, stage_context(2), results_of(2)) == StageAggregate()
    assert cipher.aggregate_stage_results(job, stage_context(3), results_of(3)) == StageAggregate()
    decided = cipher.aggregate_stage_results(job, stage_context(3), results_of(3, 1)).orchestration
    assert decided is not None
    assert decided.items == [{"letter": "ab"}]


@pytest.mark.parametrize(
    ("method", "number", "complaint"),
    [
        ("sum_up", 1, r"<lambda>, .*return value must be Contract, got dict"),
        ("decide", 3, r"<lambda>, .*return value must be OrchestrationDataContract \| None, got dict"),
    ],
)
def test_a_declared_method_that_returns_a_dict_is_a_contract_violation(
    monkeypatch: pytest.MonkeyPatch, cipher: Cipher, method: str, number: int, complaint: str
) -> None:
    """A hook cannot smuggle unvalidated values into a stage's result."""
    monkeypatch.setattr(Cipher, method, lambda *_: {})
    with pytest.raises(ContractViolationError, match=complaint):
        cipher.aggregate_stage_results(job_context(), stage_context(number), results_of(number))


def test_a_stage_advances_by_its_declared_method_else_by_its_verdict(cipher: Cipher) -> None:
    """``should_advance`` overrules the failure policy; without it the policy's verdict stands."""
    assert cipher.should_advance_stage(job_context("ab"), stage_context(1))
    assert not cipher.should_advance_stage(job_context("a"), stage_context(1))
    assert cipher.should_advance_stage(job_context(), stage_context(2))
    assert not cipher.should_advance_stage(job_context(), stage_context(2, TaskStatus.FAILED))


def test_a_verdict_must_be_a_bool(monkeypatch: pytest.MonkeyPatch, cipher: Cipher) -> None:
    """A truthy value is not a decision."""
    monkeypatch.setattr(Cipher, "is_long", lambda *_: "yes")
    with pytest.raises(ContractViolationError, match=r"<lambda>, .*return value must be bool, got str"):
        cipher.should_advance_stage(job_context(), stage_context(1))


def test_parameters_pass_and_a_job_has_no_answer_by_default(cipher: Cipher) -> None:
    """The hooks that nothing is declared for change nothing."""
    parameters = Letters(word="ab")
    assert cipher.validate_job_parameters(parameters) is parameters
    assert cipher.aggregate_job_results(job_context(), {1: results_of(1)}) is None


def test_a_subclass_overrides_a_declared_method_by_its_name() -> None:
    """Declared planners are methods: the subclass's own is called."""

    class Shouting(Cipher):
        def plan_codes(self, job: JobExecutionContext[Letters]) -> Iterator[Keyed[Letter]]:
            yield Keyed(parameters=Letter(letter=job.parameters.word.upper()), key="all")

    controller = JobRegistry().register(Shouting, "shouting").controller
    (planned,) = controller.create_stage_tasks(1, JOB, Letters(word="ab"), {})
    assert (planned.job_type, planned.parameters.letter) == ("shouting", "AB")


def test_a_stage_number_that_the_class_lacks_is_refused(cipher: Cipher) -> None:
    """A stored job of another shape fails loudly."""
    for number in (0, 5):
        with pytest.raises(WorkflowDefinitionError, match=f"Cipher has stages 1 to 4, not {number}"):
            cipher.create_stage_tasks(number, JOB, Letters(word="ab"), {})


def test_the_default_hooks_refuse_values_of_the_wrong_type(cipher: Cipher) -> None:
    """The two hooks that close a stage are boundaries."""
    with pytest.raises(ContractViolationError, match="aggregate_stage_results"):
        cipher.aggregate_stage_results(job_context(), {"stage_number": 1}, results_of(1))  # type: ignore[arg-type]
    with pytest.raises(ContractViolationError, match="should_advance_stage"):
        cipher.should_advance_stage({}, stage_context(1))  # type: ignore[arg-type]


class EchoEngine:
    """Answers every boundary method with what it was asked."""

    def process_job_queue_message(self, message: JobQueueMessage) -> ProcessingResult:
        """Answer with the stage planned."""
        return self._answer(message.job_id, message.stage_number)

    def process_task_queue_message(self, message: TaskQueueMessage) -> ProcessingResult:
        """Answer with the stage planned."""
        return self._answer(message.job_id, message.stage_number)

    def process_job_stage(self, job: JobRecord, stage_number: int) -> ProcessingResult:
        """Answer with the stage planned."""
        return self._answer(job.job_id, stage_number)

    def handle_stage_completion(self, job_id: str, stage_number: int) -> ProcessingResult:
        """Answer with the stage planned."""
        return self._answer(job_id, stage_number)

    def stage_result(self, job: JobRecord, stage_number: int) -> StageResultContract:
        """Answer with an empty result, for the job's own stage only."""
        if stage_number != job.stage:
            raise StageResultsMissingError(str(stage_number))
        return StageResultContract.from_task_results(stage_number, [], completed_at=NOW)

    def _answer(self, job_id: str, stage_number: int) -> ProcessingResult:
        return ProcessingResult(outcome=ProcessingOutcome.DONE, job_id=job_id, stages_planned=[stage_number])


def boundary_calls(controller: Cipher) -> list[Callable[[], ProcessingResult]]:
    """Return one call of every boundary method, for stages 1 to 4."""
    record = JobRecord(
        job_id=JOB,
        job_type="cipher",
        status=JobStatus.PROCESSING,
        stage=4,
        total_stages=4,
        parameters={},
        created_at=NOW,
        updated_at=NOW,
    )
    job_message = JobQueueMessage(job_id=JOB, job_type="cipher", stage_number=1)
    task_message = TaskQueueMessage(job_id=JOB, job_type="cipher", stage_number=2, task_type="encode", first=0, last=3)
    return [
        lambda: controller.process_job_queue_message(job_message),
        lambda: controller.process_task_queue_message(task_message),
        lambda: controller.process_job_stage(record, 3),
        lambda: controller._handle_stage_completion(JOB, 4),  # noqa: SLF001  its name is given
        lambda: ProcessingResult(
            outcome=ProcessingOutcome.DONE,
            job_id=JOB,
            stages_planned=[controller._validate_and_get_stage_results(record, 4).stage_number],  # noqa: SLF001  likewise
        ),
    ]


def test_boundary_methods_hand_over_to_the_bound_engine(cipher: Cipher) -> None:
    """There is one path: the engine's; the controller adds nothing to it."""
    cipher.bind(EchoEngine())
    assert [call().stages_planned for call in boundary_calls(cipher)] == [[1], [2], [3], [4], [4]]


def test_boundary_methods_of_an_unbound_controller_name_the_app(cipher: Cipher) -> None:
    """The message says what is missing."""
    for call in boundary_calls(cipher):
        with pytest.raises(UnboundControllerError, match=r"Cipher is bound to no app; create Stageflow\(…\)"):
            call()


def test_boundary_methods_take_models_only(cipher: Cipher) -> None:
    """A dict is a contract violation, whatever is in it."""
    cipher.bind(EchoEngine())
    with pytest.raises(ContractViolationError, match="process_job_queue_message"):
        cipher.process_job_queue_message({"job_id": JOB})  # type: ignore[arg-type]
    with pytest.raises(ContractViolationError, match="process_job_stage"):
        cipher.process_job_stage({"job_id": JOB}, 1)  # type: ignore[arg-type]


def hook_with_other_names(self: Any, parameters: Letters, extra: int = 0) -> Letters:  # noqa: ARG001, D103
    return parameters


def hook_with_keyword(self: Any, *, parameters: Letters) -> Letters:  # noqa: ARG001, D103
    return parameters


async def async_hook(self: Any, parameters: Letters) -> Letters:  # noqa: ARG001, D103
    return parameters


async def async_generator_hook(self: Any, parameters: Letters) -> Any:  # noqa: ARG001, D103
    yield parameters


def yielding_hook(self: Any, parameters: Letters) -> Iterator[Letters]:  # noqa: ARG001, D103
    yield parameters


@pytest.mark.parametrize(
    ("hook", "complaint"),
    [
        (
            hook_with_other_names,
            r"takes \(self: .*extra: int = 0\).* takes \(self, parameters\); give yours the same parameters, by the same names",
        ),
        (hook_with_keyword, r"takes \(self: Any, \*, parameters.* takes \(self, parameters\)"),
        (async_hook, "must not be async"),
        (async_generator_hook, "must not be async"),
        (yielding_hook, "yields, but .* returns one value"),
        (staticmethod(hook_with_other_names), "must be a plain method like .*, but is a staticmethod"),
        (None, "must be a plain method like .*, but is a NoneType"),
    ],
)
def test_a_hook_that_changes_its_form_is_refused_when_the_class_is_made(hook: object, complaint: str) -> None:
    """The engine can call every override; the message names it and what it overrides."""
    with pytest.raises(WorkflowDefinitionError, match=complaint) as caught:
        type("Changed", (Cipher,), {"validate_job_parameters": hook})
    assert re.search(r"BaseController\.validate_job_parameters, .*controller\.py:\d+", str(caught.value))


def test_a_boundary_method_cannot_be_overridden() -> None:
    """No controller makes a second path beside the engine's."""
    with pytest.raises(WorkflowDefinitionError, match=r"Own\.process_job_stage overrides .*controller\.py:\d+, which is final"):
        type("Own", (BaseController,), {"process_job_stage": hook_with_other_names})


def test_an_override_of_the_same_form_is_called() -> None:
    """A hook that yields its tasks itself needs no planner."""

    class Own(BaseController[Letters]):
        only = stage(1, "only", task=encode)

        def create_stage_tasks(
            self,
            stage_number: int,
            job_id: str,
            job_parameters: Letters,
            previous_stage_results: dict[int, StageResults[Any]],
        ) -> Iterator[TaskDefinition[Any]]:
            assert not previous_stage_results
            yield TaskDefinition(
                job_id=job_id,
                job_type="own",
                task_type="encode",
                stage_number=stage_number,
                parameters=Letter(letter=job_parameters.word),
            )

    controller = JobRegistry().register(Own, "own").controller
    (planned,) = controller.create_stage_tasks(1, JOB, Letters(word="a"), {})
    assert planned.parameters == Letter(letter="a")
