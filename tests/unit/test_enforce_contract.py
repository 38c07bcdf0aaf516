"""A boundary function gets and gives what its contract says, or stops and says who passed what."""

import asyncio
import contextlib
import functools
import importlib.util
import inspect
import subprocess
import sys
import threading
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import (
    Annotated,
    Any,
    BinaryIO,
    ClassVar,
    Generic,
    Literal,
    LiteralString,
    NewType,
    NoReturn,
    NotRequired,
    ParamSpec,
    Protocol,
    Required,
    Self,
    TextIO,
    TypedDict,
    TypeGuard,
    TypeVar,
    Union,
)
from unittest.mock import MagicMock, Mock, create_autospec

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue
from typing_extensions import TypeAliasType

from stageflow.contracts.enforce import FunctionContract, contract_of, enforce_contract
from stageflow.errors import ContractDefinitionError, ContractViolationError


class Plan(BaseModel):
    """What goes in."""

    name: str = "plan"


class Record(BaseModel):
    """What comes out."""

    name: str = "record"


class LargePlan(Plan):
    """A plan and more."""


class Color(StrEnum):
    """An enum whose members are text."""

    RED = "red"


class Level(IntEnum):
    """An enum whose members are integers."""

    LOW = 1


ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)
PlanT = TypeVar("PlanT", bound=Plan)
LatePlanT = TypeVar("LatePlanT", bound="Plan")
NumberOrTextT = TypeVar("NumberOrTextT", int, str)
P = ParamSpec("P")


class Job(BaseModel, Generic[ItemT]):
    """A generic model."""

    item: ItemT


class CountJob(Job[int]):
    """A model below a parametrised one."""


class View(BaseModel, Generic[ItemT_co]):
    """A generic model that only gives."""

    item: ItemT_co


class Box(Generic[ItemT]):
    """A generic class that is no model."""


class Saves(Protocol):
    """A port with a method."""

    def save(self, plan: Plan, *, twice: bool = False) -> Record:
        """Save it."""


class Named(Protocol):
    """A port with attributes, a property and a method."""

    kinds: ClassVar[int]
    name: str
    size: int

    @property
    def parent(self) -> "Named | None":
        """What it belongs to."""

    @property
    def anything(self):  # type: ignore[no-untyped-def]  # noqa: ANN201, D102 - what an unannotated property does
        ...

    def rename(self, name: str) -> None:
        """Give it a name."""


class Options(TypedDict):
    """A typed dictionary."""

    limit: int
    note: NotRequired[str]


class LateOptions(TypedDict, total=False):
    """A typed dictionary whose wrappers are inside strings."""

    limit: "Required[int]"
    rest: "NotRequired[LateOptions]"


PlanId = NewType("PlanId", str)
Tree = TypeAliasType("Tree", "int | list[Tree]")
Pair = TypeAliasType("Pair", tuple[ItemT, ItemT], type_params=(ItemT,))


class File(Saves):
    """Saves for real."""

    def save(self, plan: Plan, *, twice: bool = False) -> Record:  # noqa: ARG002
        """Save it."""
        return Record(name=plan.name)


def _accepts(hint: Any, value: object) -> bool:
    def function(value: object) -> object:
        return value

    enforced = enforce_contract(params={"value": hint})(function)
    try:
        result = enforced(value)
    except ContractViolationError:
        return False
    assert result is value
    return True


def _violation(hint: Any, value: object) -> ContractViolationError:
    def function(value: object) -> None: ...

    with pytest.raises(ContractViolationError) as caught:
        enforce_contract(params={"value": hint})(function)(value)
    return caught.value


# The forms of the decorator


def test_an_argument_of_the_wrong_type_names_function_parameter_types_and_value() -> None:
    """The message alone tells who passed what, and what to do."""

    @enforce_contract(params={"task_def": Plan}, returns=Record)
    def create_task(task_def: Plan) -> Record:
        return Record(name=task_def.name)

    with pytest.raises(ContractViolationError) as caught:
        create_task({"a": 1})  # type: ignore[arg-type]

    error = caught.value
    assert isinstance(error, TypeError)
    assert error.function == create_task.__qualname__
    assert (error.parameter, error.expected, error.actual) == ("task_def", "Plan", "dict")
    assert (error.path, error.preview) == ("task_def", "{'a': 1}")
    assert str(error) == (
        f"{create_task.__qualname__}: parameter 'task_def' must be Plan, got dict ({{'a': 1}}). "
        "Pass Plan; nothing is converted here."
    )


def test_a_result_of_the_wrong_type_is_called_the_return_value() -> None:
    """A function that breaks its own promise is told so."""

    @enforce_contract(returns=list[Record])
    def list_records() -> object:
        return [Record(), Plan()]

    with pytest.raises(ContractViolationError) as caught:
        list_records()

    assert caught.value.parameter is None
    assert caught.value.path == "return[1]"
    assert "return[1] in return value must be Record, got Plan (Plan(name='plan')). Return Record from" in str(caught.value)


@pytest.mark.parametrize("decorator", [enforce_contract, enforce_contract()])
def test_bare_and_with_empty_parentheses_it_reads_the_annotations(decorator: Any) -> None:
    """The annotations are the contract unless another is given."""

    def function(plan: Plan, anything, more: Any = None) -> Record:  # type: ignore[no-untyped-def]  # noqa: ANN001, ARG001
        return Record() if plan.name else plan  # type: ignore[return-value]

    create = decorator(function)

    assert create(Plan(), 3) == Record()
    with pytest.raises(ContractViolationError, match="parameter 'plan' must be Plan, got int"):
        create(3, 3)
    with pytest.raises(ContractViolationError, match="return value must be Record, got Plan"):
        create(Plan(name=""), 3)


def test_with_params_alone_the_result_is_not_checked() -> None:
    """What is not named is not checked, whatever the annotations say."""

    @enforce_contract(params={"plan": Plan})
    def create(plan: Plan, count: int) -> Record:  # noqa: ARG001
        return 3  # type: ignore[return-value]

    assert create(Plan(), "x") == 3  # type: ignore[arg-type, comparison-overlap]


def test_with_returns_alone_no_parameter_is_checked() -> None:
    """What is not named is not checked, whatever the annotations say."""

    @enforce_contract(returns=Record)
    def create(plan: Plan) -> object:
        return plan

    with pytest.raises(ContractViolationError, match="return value must be Record, got int"):
        create(3)  # type: ignore[arg-type]


def test_the_type_of_none_means_that_nothing_is_returned() -> None:
    """``returns=type(None)`` is a contract, not the lack of one."""

    @enforce_contract(returns=type(None))
    def forget(value: object) -> object:
        return value

    assert forget(None) is None
    with pytest.raises(ContractViolationError, match="return value must be None, got int"):
        forget(3)


def test_returns_none_is_refused_as_ambiguous() -> None:
    """None could mean unchecked or nothing: nobody has to guess."""
    with pytest.raises(ContractDefinitionError, match=r"write returns=type\(None\)"):
        enforce_contract(returns=None)


def test_a_name_that_the_function_lacks_is_refused_at_decoration() -> None:
    """A misspelt name would check nothing."""

    def create(job: Plan, task_def: Plan) -> None: ...

    with pytest.raises(ContractDefinitionError, match=r"create has no parameter 'task'; its parameters are job, task_def"):
        enforce_contract(params={"task": Plan})(create)
    with pytest.raises(ContractDefinitionError, match="its parameters are none"):
        enforce_contract(params={"task": Plan})(lambda: None)


def test_a_function_without_anything_to_check_is_refused() -> None:
    """A contract that says nothing is a mistake."""
    with pytest.raises(ContractDefinitionError, match="has no annotations to check"):
        enforce_contract(lambda plan: plan)


@pytest.mark.parametrize("thing", [Plan, property(lambda self: self), functools.partial(print), len])
def test_what_is_not_a_function_is_refused(thing: Any) -> None:
    """A class or an object of another decorator has no parameters to stand in front of."""
    with pytest.raises(ContractDefinitionError, match="directly above a def"):
        enforce_contract(thing)


@pytest.mark.parametrize(
    "hint",
    [5, (), (int, 5), "int[", "3 +", Self, typing.Final, list[Self], tuple[int, *tuple[str, ...]], type[5]],  # type: ignore[misc]
)
def test_a_type_that_cannot_be_checked_is_refused_at_decoration(hint: Any) -> None:
    """What would pass unchecked is never accepted as a contract."""
    with pytest.raises(ContractDefinitionError, match="function"):
        enforce_contract(params={"value": hint})(_function)


def _function(value: object) -> None: ...


def test_the_same_object_goes_through() -> None:
    """Nothing is coerced, copied or changed on the way in or out."""
    plans = [Plan(), LargePlan()]

    @enforce_contract
    def same(plans: list[Plan]) -> list[Plan]:
        return plans

    assert same(plans) is plans


# Parameters of every kind


def test_every_kind_of_parameter_is_checked_however_it_is_passed() -> None:
    """Positional-only, keyword-only, starred: all are parameters."""

    @enforce_contract
    def call(first: int, /, second: int, *rest: int, third: int, fourth: int = 4, **more: int) -> tuple[Any, ...]:
        return first, second, rest, third, fourth, more

    assert call(1, 2, 3, 3, third=5, x=6) == (1, 2, (3, 3), 5, 4, {"x": 6})
    assert call(1, second=2, third=5, fourth=6) == (1, 2, (), 5, 6, {})
    bad: Any = "x"
    wrong_calls: dict[str, Callable[[], object]] = {
        "first": lambda: call(bad, 2, third=3),
        "second": lambda: call(1, second=bad, third=3),
        "rest[1]": lambda: call(1, 2, 3, bad, third=3),
        "third": lambda: call(1, 2, third=bad),
        "fourth": lambda: call(1, 2, third=3, fourth=bad),
        "more['x']": lambda: call(1, 2, third=3, x=bad),
    }
    for path, wrong in wrong_calls.items():
        with pytest.raises(ContractViolationError) as caught:
            wrong()
        assert (caught.value.path, caught.value.expected) == (path, "int")
        assert caught.value.parameter == path.partition("[")[0]


def test_keyword_only_and_positional_only_parameters_alone() -> None:
    """Each separator may stand without the other kind beside it."""

    @enforce_contract
    def positional(first: int, /) -> int:
        return first

    @enforce_contract
    def keyword(*, first: int) -> int:
        return first

    assert positional(1) == keyword(first=1) == 1
    with pytest.raises(TypeError, match="positional-only"):
        positional(first=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        keyword(1)  # type: ignore[call-arg]


def test_starred_parameters_without_a_type_are_left_alone() -> None:
    """Arguments that are handed on belong to somebody else's contract."""

    @enforce_contract
    def call(function: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
        return function(*args, **kwargs)

    assert call(int, "7", base=8) == 7


def test_a_default_that_is_used_is_not_checked() -> None:
    """A sentinel may stand for "not given"; passing another wrong value is still refused."""

    @enforce_contract
    def create(plan: Plan = None, *, limit: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - the point

    create()
    create(Plan(), limit=3)
    with pytest.raises(ContractViolationError, match="'plan'"):
        create(3)  # type: ignore[arg-type]
    with pytest.raises(ContractViolationError, match="'limit'"):
        create(limit="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [(), (Plan(), Plan(), Plan())])
def test_a_wrong_number_of_arguments_is_pythons_own_error(arguments: Any) -> None:
    """The contract adds its checks and takes nothing of Python's away."""

    def create(job: Plan, plan: Plan) -> None: ...

    with pytest.raises(TypeError) as plain:
        create(*arguments)
    with pytest.raises(TypeError) as enforced:
        enforce_contract(create)(*arguments)

    assert str(enforced.value) == str(plain.value)
    assert type(enforced.value) is TypeError


def test_a_parameter_may_have_any_name() -> None:
    """Not even the names of built-ins or of the wrapper itself collide."""

    @enforce_contract
    def create(type: int, result: int, _stageflow_function: int, _stageflow__x: int = 0) -> int:  # noqa: A002
        return type + result + _stageflow_function + _stageflow__x

    assert create(1, 2, 3) == 6
    with pytest.raises(ContractViolationError, match="'_stageflow_function'"):
        create(1, 2, "x")  # type: ignore[arg-type]


# Methods


class _Repository:
    @enforce_contract
    def method(self, plan: Plan) -> Record:
        return Record(name=plan.name)

    @classmethod
    @enforce_contract
    def class_below(cls, plan: Plan) -> str:
        return cls.__name__ + plan.name

    @enforce_contract
    @classmethod
    def class_above(cls, plan: Plan) -> str:
        return cls.__name__ + plan.name

    @staticmethod
    @enforce_contract
    def static_below(plan: Plan) -> str:
        return plan.name

    @enforce_contract(params={"plan": Plan}, returns=str)
    @staticmethod
    def static_above(plan: Plan) -> str:
        return plan.name

    @enforce_contract
    def clone(self, other: "_Repository | None" = None) -> "_Repository":
        return other or self


_methods = ["method", "class_below", "class_above", "static_below", "static_above"]


@pytest.mark.parametrize("name", _methods)
def test_methods_are_checked_with_the_decorator_above_or_below(name: str) -> None:
    """Each kind of method can be a boundary."""
    for owner in [_Repository(), *([] if name == "method" else [_Repository])]:
        method = getattr(owner, name)
        assert method(Plan(name="a"))
        assert method(plan=Plan(name="a"))
        with pytest.raises(ContractViolationError, match=f"_Repository.{name}: parameter 'plan' must be Plan, got str"):
            method("a")
        with pytest.raises(ContractViolationError):
            method(plan="a")


@pytest.mark.parametrize("name", _methods)
def test_the_contract_of_a_method_can_be_read_back(name: str) -> None:
    """A test can list the boundary methods and what they promise."""
    for owner in (_Repository, _Repository()):
        contract = contract_of(getattr(owner, name))
        assert contract.function == f"_Repository.{name}"
        assert dict(contract.params) == {"plan": Plan}
        assert contract.returns in (Record, str)
    assert contract_of(inspect.getattr_static(_Repository, name)).function == f"_Repository.{name}"


def test_a_method_may_name_the_class_that_it_is_in() -> None:
    """The class does not exist yet when its methods are decorated."""
    repository = _Repository()

    assert repository.clone() is repository
    with pytest.raises(ContractViolationError, match=r"must be _Repository \| None, got int"):
        repository.clone(3)  # type: ignore[arg-type]
    assert contract_of(_Repository.clone).params["other"] == Union[_Repository, None]  # noqa: UP007


def test_the_contract_tells_what_is_not_checked() -> None:
    """``None`` is "not checked", ``type(None)`` is "nothing"."""

    @enforce_contract(params={"plan": (Plan, None)})
    def create(plan: Plan | None, count: int) -> None: ...

    @enforce_contract
    def forget(*plans: Plan) -> None: ...

    assert contract_of(create) == FunctionContract(create.__qualname__, {"plan": Union[Plan, None]}, None)  # noqa: UP007
    assert contract_of(forget).returns is type(None)
    assert dict(contract_of(forget).params) == {"plans": Plan}


def test_a_contract_is_found_through_other_decorators() -> None:
    """A decorator further out that uses ``functools.wraps`` does not hide it."""

    @functools.wraps(_Repository.static_below)
    def outer(*args: Any) -> Any:
        return _Repository.static_below(*args)

    assert contract_of(outer).function == "_Repository.static_below"


@pytest.mark.parametrize("function", [len, _function, classmethod(_function)])
def test_a_function_without_a_contract_has_none_to_read(function: Any) -> None:
    """No contract is not an empty contract."""
    with pytest.raises(ContractDefinitionError, match=r"has no contract; decorate it"):
        contract_of(function)


def test_the_wrapper_looks_like_the_function() -> None:
    """Name, documentation, signature and annotations are the function's own."""

    def create(plan: Plan, *, limit: int = 3) -> Record:
        """Make it."""
        return Record(name=plan.name * limit)

    enforced = enforce_contract(create)

    assert (enforced.__name__, enforced.__qualname__, enforced.__doc__) == (create.__name__, create.__qualname__, "Make it.")
    assert enforced.__module__ == __name__
    assert inspect.unwrap(enforced) is create
    assert inspect.signature(enforced) == inspect.signature(create)
    assert typing.get_type_hints(enforced) == typing.get_type_hints(create)


def test_it_goes_on_top_of_another_decorator() -> None:
    """With ``functools.wraps`` below, names and types come from the innermost function."""

    def logged(function: Callable[P, ItemT]) -> Callable[P, ItemT]:
        @functools.wraps(function)
        def inner(*args: P.args, **kwargs: P.kwargs) -> ItemT:
            return function(*args, **kwargs)

        return inner

    @enforce_contract
    @logged
    def create(plan: "Plan") -> "Record":
        return Record(name=plan.name)

    assert create(Plan()) == Record(name="plan")
    with pytest.raises(ContractViolationError, match="'plan'"):
        create(3)  # type: ignore[arg-type]


def test_it_goes_on_top_of_a_wrapped_object() -> None:
    """What is wrapped innermost need not be a function."""

    @functools.wraps(functools.partial(int, base=8))
    def parse(text: "str") -> "int":
        return int(text, 8)

    parse.__annotations__ = {"args": "str"}
    parse.__signature__ = inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])  # type: ignore[attr-defined]

    assert enforce_contract(parse)("17") == 15


# Types


def _id_of(value: object) -> str:
    """Return a name that is the same in every process: no address of an object is in it, nor the order of a set."""
    return f"{len(value)} values" if isinstance(value, list) else str(value)


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (Plan, [Plan(), LargePlan()], [Record(), {"name": "a"}, None, Plan, "plan"]),
        (int, [1, Level.LOW], [True, 1.0, "1", None]),
        (bool, [True, False], [1, None]),
        (float, [1.0, 1, Level.LOW], [True, "1", 1j]),
        (complex, [1.0, 1, 1j], [True, "1"]),
        (int | bool, [1, True], [1.0]),
        (str, ["a", Color.RED], [b"a", None]),
        (bytes, [b"a"], ["a", bytearray(b"a")]),
        (Color, [Color.RED], ["red"]),
        (None, [None], [0, False]),
        (type(None), [None], [0, False]),
        (Any, [1, None], []),
        (object, [1, None], []),
        (Plan | None, [Plan(), None, LargePlan()], [Record(), 0]),
        (typing.Optional["Plan"], [Plan(), None], [Record(), 0]),
        (Union[Plan, list[Record]], [Plan(), [Record()], []], [[Plan()], Record()]),  # noqa: UP007
        (Union[Plan, Any], [Plan(), 3], []),  # noqa: UP007
        (list[Plan] | dict[str, Plan], [[Plan()], {"a": Plan()}], [{"a": Record()}, None]),
        ((Plan, Record), [Plan(), Record()], [None, 3]),
        ((Plan, (Record, "str", None)), [Plan(), Record(), "a", None], [3]),
        (list[Plan], [[], [Plan(), LargePlan()]], [[Plan(), Record()], (Plan(),), Plan(), [Mock(spec=Plan)]]),
        (typing.List["Plan"], [[Plan()]], [[Record()]]),  # noqa: UP006
        (list, [[1, "a"]], [(1,), None]),
        (list[Any], [[1, "a"]], [(1,), None]),
        (dict, [{1: "a"}], [[], None]),
        (set[int], [{1, 2}, set()], [{1, True + 1, "a"}, frozenset({1}), [1]]),
        (frozenset[int], [frozenset({1})], [{1}]),
        (AbstractSet[int], [frozenset({1}), {1}, {1: 2}.keys()], [{"a"}, [1]]),
        (deque[int], [deque([1])], [deque(["a"]), [1]]),
        (Sequence[int], [[1], (1,), range(3)], [["a"], {1}, 1]),
        (Collection[int], [[1], {1}, {1: "a"}], [["a"], iter([1])]),
        (Iterable[int], [[1], {1}], [["a"], 3]),
        (dict[str, Plan], [{}, {"a": Plan(), "b": LargePlan()}], [{"a": Record()}, {1: Plan()}, [Plan()]]),
        (Mapping[str, int], [{"a": 1}, types.MappingProxyType({"a": 1})], [{"a": True}, {"a": "b"}, [("a", 1)]]),
        (dict[Color, Level], [{Color.RED: Level.LOW}], [{"red": Level.LOW}, {Color.RED: 1}]),
        (defaultdict[str, list[int]], [defaultdict(list, a=[1])], [defaultdict(list, a=["x"]), {"a": [1]}]),
        (OrderedDict[str, int], [OrderedDict(a=1)], [{"a": 1}]),
        (Counter[str], [Counter("aa")], [Counter([1]), OrderedDict(a=1)]),
        (tuple[int, str], [(1, "a")], [(1,), (1, 2), (1, "a", 2), [1, "a"]]),
        (tuple[int, ...], [(), (1, 2)], [(1, "a"), [1]]),
        (tuple[()], [()], [(1,)]),
        (tuple, [(1, "a")], [[1]]),
        (typing.Tuple, [(1, "a")], [[1]]),  # noqa: UP006
        (list[list[int]], [[[1], []]], [[[1], ["a"]], [1]]),
        (list[Plan | None], [[Plan(), None]], [[Plan(), 3]]),
        (Literal["a", 1], ["a", 1], ["b", True, 1.0, Color.RED, [], None]),
        (Literal[Color.RED, "a"], [Color.RED, "a"], ["red"]),
        (Annotated[str, Field(min_length=9)], ["a"], [1]),
        (list[Annotated[int, Field(gt=0)]], [[1]], [["a"]]),
        (PlanId, ["a"], [1]),
        (LiteralString, ["a"], [1]),
        (TypeGuard[int], [True], [1]),
        (typing.Never, [], [1, None]),
        (NoReturn, [], [None]),
        (ItemT, [1, None], []),
        (PlanT, [Plan(), LargePlan()], [Record()]),
        (list[LatePlanT], [[Plan()]], [[Record()]]),  # type: ignore[valid-type]
        (NumberOrTextT, [1, "a"], [1.0, True]),
        (type[Plan], [Plan, LargePlan], [Record, Plan(), None]),
        (type[Plan | Record], [Plan, Record], [int]),
        (type[Any], [int], [3]),
        (type[PlanT], [LargePlan], [Record]),
        (type[Annotated[Plan, "a"]], [LargePlan], [Record]),
        (type[Box[int]], [Box], [Plan]),
        (type[Saves], [File], [Plan, File()]),
        (type, [int], [3]),
        (Job[int], [Job[int](item=1), CountJob(item=1)], [Job[str](item="a"), Job(item=1), Plan()]),
        (Job, [Job(item=1), Job[int](item=1)], [Plan()]),
        (Job[Any], [Job[int](item=1), Job(item=1), CountJob(item=1)], [Plan(), View[int](item=1)]),
        (Job[PlanT], [Job[Plan](item=Plan()), Job(item=1)], [Job[int](item=1)]),  # type: ignore[valid-type]
        (Job[Plan], [Job[Plan](item=Plan())], [Job[LargePlan](item=LargePlan())]),
        (View[Plan], [View[Plan](item=Plan()), View[LargePlan](item=LargePlan())], [View[Record](item=Record())]),
        (Box[int], [Box[int](), Box()], [[1]]),
        (Callable[[int], str], [str, Plan.model_validate_json, Mock()], [3, lambda: "a", divmod]),
        (Callable[..., str], [str, lambda: "a"], [3]),
        (Callable, [str, len], [3]),
        (Awaitable[int], [], [3]),
        (BaseModel, [Plan(), Job(item=1)], [3, Plan]),
        (TextIO, [sys.__stderr__], [3, Mock()]),
        (typing.IO[str], [sys.__stderr__], ["a", MagicMock(spec=TextIO)]),
        (BinaryIO, [], [sys.__stderr__]),
        (
            Options,
            [{"limit": 1}, {"limit": 1, "note": "a"}],
            [{}, {"limit": True}, {"limit": 1, "x": 2}, [], {1: 1, "limit": 1}],
        ),
        (LateOptions, [{"limit": 1, "rest": {"limit": 2}}], [{}, {"limit": 1, "rest": {}}]),
        (JsonValue, [None, 1, "a", [1, {"a": [True, 1.5]}]], [object(), [1, {"a": [Plan()]}], {1: 2}, (1,)]),
        (Tree, [1, [1, [2, [3]]]], ["a", [1, [2, ["a"]]]]),
        (Pair[int], [(1, 2)], [(1, "a"), (1,)]),
        (typing.Hashable, ["a"], [[]]),
        ("Plan", [Plan()], [Record()]),
        ("list[Plan | None]", [[Plan(), None]], [[Record()]]),
    ],
    ids=_id_of,
)
def test_a_type_takes_its_values_and_no_others(hint: Any, good: list[Any], bad: list[Any]) -> None:
    """Each form of annotation is checked down to the last element."""
    assert [value for value in good if not _accepts(hint, value)] == []
    assert [value for value in bad if _accepts(hint, value)] == []


@pytest.mark.parametrize(
    ("hint", "value", "path", "expected", "actual"),
    [
        (list[Plan], [Plan(), 3], "value[1]", "Plan", "int"),
        (list[Plan] | None, [Plan(), 3], "value[1]", "Plan", "int"),
        (list[Plan] | None, 3, "value", "list[Plan] | None", "int"),
        (Sequence[int], 3, "value", "Sequence[int]", "int"),
        (set[int], {"a"}, "list(value)[0]", "int", "str"),
        (dict[str, Plan], {"a": 3}, "value['a']", "Plan", "int"),
        (dict[str, Plan], {3: Plan()}, "list(value)[0]", "str", "int"),
        (dict[str, Plan], 3, "value", "dict[str, Plan]", "int"),
        (dict[str, list[int]], {"a": [1], "b": [1, True]}, "value['b'][1]", "int", "bool"),
        (tuple[int, str], (1, 2), "value[1]", "str", "int"),
        (tuple[int, str], (1,), "value", "tuple[int, str]", "a tuple of length 1"),
        (tuple[int, str], 3, "value", "tuple[int, str]", "int"),
        (Literal["a", "b"], "c", "value", "Literal['a', 'b']", "'c'"),
        (Literal["a"], 3, "value", "Literal['a']", "int"),
        (type[Plan], Record, "value", "type[Plan]", "type[Record]"),
        (type[Plan], Plan(), "value", "type[Plan]", "Plan"),
        (Options, {"limit": "a"}, "value['limit']", "int", "str"),
        (Options, 3, "value", "Options", "int"),
        (Tree, [1, [2, "a"]], "value[1][1]", "int | list[Tree]", "str"),
        (PlanT, 3, "value", "Plan", "int"),
        (Callable[[int, Plan], None], 3, "value", "Callable[[int, Plan], None]", "int"),
        (Callable[..., int], 3, "value", "Callable[..., int]", "int"),
        (list[PlanT], 3, "value", "list[PlanT]", "int"),  # type: ignore[valid-type]
        (list[PlanId], 3, "value", "list[PlanId]", "int"),
        (list[Pair[int]], 3, "value", "list[Pair[int]]", "int"),
        (Job[Plan], Plan(), "value", "Job[Plan]", "Plan"),
        (typing.Never, 3, "value", "no value at all", "int"),
    ],
    ids=_id_of,
)
def test_a_violation_points_to_the_bad_element(hint: Any, value: Any, path: str, expected: str, actual: str) -> None:
    """The path can be pasted behind the variable, and the types are those of the element."""
    error = _violation(hint, value)

    assert (error.path, error.expected, error.actual) == (path, expected, actual)


def test_the_message_names_what_a_typed_dictionary_lacks_or_has_too_much() -> None:
    """A wrong key is named, not only the dictionary."""
    assert "got dict ({}): it has no key 'limit'" in str(_violation(Options, {}))
    assert "'x' is not one of its keys" in str(_violation(Options, {"limit": 1, "x": 2}))


def test_classes_of_the_same_name_are_told_apart() -> None:
    """To be told "must be Plan, got Plan" would help nobody."""
    other = type("Plan", (), {"__module__": "elsewhere"})

    error = _violation(Plan | None, other())

    assert error.expected == f"{__name__}.Plan | builtins.NoneType"
    assert error.actual == "elsewhere.Plan"


def test_a_message_shows_no_secret_and_no_endless_value() -> None:
    """Messages are logged and stored."""
    error = _violation(Plan, "postgresql://user:SECRET@host/" + "x" * 1000)

    assert "SECRET" not in str(error)
    assert len(error.preview) <= 80


@given(st.lists(st.none(), min_size=1, max_size=30), st.data())
def test_one_bad_element_is_found_wherever_it_is(values: list[None], data: st.DataObject) -> None:
    """Containers are checked to the end, and the path names the place."""
    place = data.draw(st.integers(0, len(values) - 1))
    plans: list[Any] = [Plan() for _ in values]
    plans[place] = data.draw(st.sampled_from([None, 3, True, "a", {}, Record(), Plan]))
    by_key = {str(index): plan for index, plan in enumerate(plans)}

    for hint in (list[Plan], Sequence[Plan], Iterable[Plan], Collection["Plan"]):
        assert _violation(hint, plans).path == f"value[{place}]"
    assert _violation(tuple[Plan, ...], tuple(plans)).path == f"value[{place}]"
    assert _violation(dict[str, Plan], by_key).path == f"value['{place}']"
    assert _violation(Mapping[str, list[Plan]], {"a": [], "b": plans}).path == f"value['b'][{place}]"


@given(st.lists(st.integers()), st.dictionaries(st.text(), st.lists(st.integers() | st.none())))
def test_good_containers_pass_whatever_they_hold(numbers: list[int], table: dict[str, list[int | None]]) -> None:
    """No value that fits is refused."""
    assert _accepts(list[int], numbers)
    assert _accepts(Sequence[float], tuple(numbers))
    assert _accepts(dict[str, list[int | None]], table)


def test_an_iterator_that_is_passed_is_not_used_up() -> None:
    """Its elements cannot be looked at without being taken from the function."""

    @enforce_contract
    def total(numbers: Iterable[int], more: Iterator[int]) -> int:
        return sum(numbers) + sum(more)

    assert total((n for n in (1, 2)), iter([3])) == 6
    with pytest.raises(ContractViolationError, match=r"'more' must be Iterator\[int\], got list"):
        total([1], [3])  # type: ignore[arg-type]


def test_a_value_that_changes_while_it_is_looked_at_is_still_refused() -> None:
    """If the fault is gone when it is looked for, the whole value is named."""

    class Once(list[Any]):
        """Bad the first time, good after."""

        times = 0

        def __iter__(self) -> Iterator[Any]:
            self.times += 1
            return iter(["bad"] if self.times == 1 else [])

    class OnceMapping(dict[str, Any]):
        """Bad the first time, good after."""

        times = 0

        def items(self) -> Any:
            self.times += 1
            return [("limit", "bad")] if self.times == 1 else []

        def keys(self) -> Any:
            return {"limit": 1}.keys()

    class OnceTuple(tuple[Any, ...]):
        """Bad the first time, good after."""

        __slots__ = ()
        times: ClassVar[int] = 0

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[Any]:
            type(self).times += 1
            return iter(["bad"] if self.times == 1 else [1])

    assert _violation(list[int], Once()).path == "value"
    assert _violation(dict[str, int], OnceMapping()).path == "value"
    assert _violation(Options, OnceMapping()).path == "value"
    assert _violation(tuple[int], OnceTuple()).path == "value"


# Mocks, protocols, callables


@pytest.mark.parametrize(
    "mock", [Mock(), Mock(spec=Plan), MagicMock(spec=File), create_autospec(File, instance=True), create_autospec(Saves)]
)
def test_a_mock_is_not_what_it_claims_to_be(mock: Any) -> None:
    """A boundary is crossed by real values; ``__class__`` may lie, ``type`` does not."""
    assert not _accepts(Plan, mock)
    assert not _accepts(list[Plan], [mock])
    assert not _accepts(int | Plan, mock)
    assert not _accepts(Saves, mock)
    assert "a mock answers to every name" in str(_violation(Saves, mock))


def test_a_protocol_wants_its_methods() -> None:
    """Having the methods is enough; a backend need not import the port."""

    class Good:
        def save(self, plan: Plan, *, twice: bool = False) -> Record:
            return Record(name=plan.name * (1 + twice))

    class WrongArguments:
        def save(self) -> None: ...

    class NoMethod:
        save = None

    class AnswersToAll:
        def __getattr__(self, name: str) -> Any:
            return lambda *args: args

    assert _accepts(Saves, Good())
    assert _accepts(Saves, File())
    assert _accepts(Saves | None, None)
    assert "it has no method 'save'" in str(_violation(Saves, Plan()))
    assert "it has no method 'save'" in str(_violation(Saves, AnswersToAll()))
    assert "its 'save' is not a method" in str(_violation(Saves, NoMethod()))
    assert "has too few positional arguments" in str(_violation(Saves, WrongArguments()))


def test_a_protocol_is_checked_once_for_each_class() -> None:
    """Taking signatures apart costs microseconds that a hot path should not pay twice."""

    @enforce_contract
    def store(port: Saves) -> Record:
        return port.save(Plan())

    for _ in range(3):
        assert store(File()) == Record(name="plan")


def test_an_object_with_functions_of_its_own_can_have_the_shape() -> None:
    """Methods need not sit on the class of the value."""
    assert _accepts(Saves, types.SimpleNamespace(save=File().save))
    assert not _accepts(Saves, types.SimpleNamespace(save=3))


def test_a_class_that_was_not_instantiated_has_not_the_shape_of_its_instances() -> None:
    """Its functions are there, but without an instance to call them on."""

    class Meta(type):
        def save(cls, plan: Plan, *, twice: bool = False) -> None: ...

    class Made(metaclass=Meta):
        pass

    assert "it is a class; pass an instance of it" in str(_violation(Saves, File))
    assert _accepts(Saves, Made)


def _rename(self: object, name: str) -> None: ...


def _rename_without_name(self: object) -> None: ...


def _named(**members: Any) -> Any:
    body = {"kinds": 1, "name": "a", "size": 1, "parent": None, "anything": 0, "rename": _rename}
    return type("Thing", (), {name: member for name, member in {**body, **members}.items() if member is not ...})()


def test_a_protocol_wants_its_attributes_with_their_types() -> None:
    """Attributes and properties of a protocol are part of the shape, and ``True`` is no ``int`` there either."""
    assert _accepts(Named, _named())
    assert _accepts(Named, _named(parent=_named(parent=_named())))
    assert "it has no attribute 'size'" in str(_violation(Named, _named(size=...)))
    assert "it has no attribute 'kinds'" in str(_violation(Named, _named(kinds=...)))
    assert "it has no method 'rename'" in str(_violation(Named, _named(rename=...)))
    assert "has too few positional arguments" in str(_violation(Named, _named(rename=_rename_without_name)))
    error = _violation(Named, _named(size=True))
    assert (error.path, error.expected, error.actual) == ("value.size", "int", "bool")
    error = _violation(list[Named], [_named(parent=_named(name=3))])
    assert (error.path, error.expected, error.actual) == ("value[0].parent.name", "str", "int")


def test_a_protocol_of_attributes_alone_needs_no_methods() -> None:
    """Data is a shape too."""

    class Sized(Protocol):
        size: int
        rank: ClassVar = 3  # type: ignore[misc]

    assert _accepts(Sized, types.SimpleNamespace(size=1, rank="x"))
    assert _violation(Sized, types.SimpleNamespace(size="a", rank=1)).path == "value.size"


def test_a_callable_must_take_the_arguments() -> None:
    """A wrong callback is found where it is handed over, not where it is called."""
    error = _violation(Callable[[int], str], lambda: "a")

    assert error.expected == "Callable[[int], str]"
    assert "has too few arguments" in str(error)


# Names that are not there yet


class _Early:
    @enforce_contract
    def later(self, late: "_Late", *, lates: "list[_Late]") -> "_Late":
        return lates[0] if lates else late

    @enforce_contract
    def never(self, missing: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821 - what this is about
        ...


class _Late(BaseModel):
    pass


def test_a_class_that_comes_later_in_the_module_is_resolved_at_the_first_call() -> None:
    """Forward references are checked like any other type."""
    late = _Late()

    assert _Early().later(late, lates=[]) is late
    with pytest.raises(ContractViolationError, match=r"lates\[0\] in parameter 'lates' must be _Late, got int"):
        _Early().later(late, lates=[3])  # type: ignore[list-item]
    with pytest.raises(ContractViolationError, match="parameter 'late' must be _Late, got int"):
        _Early().later(3, lates=[])  # type: ignore[arg-type]


def test_a_name_that_does_not_exist_is_an_error_at_each_call() -> None:
    """An unresolved reference never passes silently."""
    for _ in range(2):
        with pytest.raises(ContractDefinitionError, match=r"_Early\.never: a name in its contract.*'Missing'.*TYPE_CHECKING"):
            _Early().never(3)
    with pytest.raises(ContractDefinitionError, match="'Missing'"):
        contract_of(_Early.never)


def test_names_local_to_a_function_are_found() -> None:
    """A host may define its models inside a function, also after the function that takes them."""

    class Before(BaseModel):
        class Inner(BaseModel):
            pass

        inner: Inner | None = None

        @classmethod
        @enforce_contract
        def make(cls, inner: "Inner", before: "Before | None" = None) -> "Before":
            return before or cls(inner=inner)

    @enforce_contract
    def convert(before: "Before", after: "After") -> "After":
        return after if before else None  # type: ignore[return-value]

    class After(BaseModel):
        pass

    assert convert(Before(), After()) == After()
    assert Before.make(Before.Inner()) == Before(inner=Before.Inner())
    with pytest.raises(ContractViolationError, match="'inner'"):
        Before.make(3)  # type: ignore[arg-type]
    with pytest.raises(ContractViolationError, match="'after'"):
        convert(Before(), Before())  # type: ignore[arg-type]


def test_a_late_name_in_a_default_only_call_is_resolved_too() -> None:
    """The first call resolves even if nothing is left to check."""

    @enforce_contract(params={"plan": "Nowhere"})
    def create(plan: object = None) -> None: ...

    with pytest.raises(ContractDefinitionError, match="Nowhere"):
        create()


def test_threads_may_make_the_first_call_together() -> None:
    """Compiling twice is harmless, calling half compiled would not be."""
    barrier = threading.Barrier(4)
    refused: list[str] = []

    @enforce_contract
    def create(value: "Local") -> "Local":
        return value

    class Local(BaseModel):
        pass

    def call() -> None:
        barrier.wait()
        create(Local())
        with pytest.raises(ContractViolationError) as caught:
            create(3)  # type: ignore[arg-type]
        refused.append(caught.value.path)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == ["value"] * 4


_module = """
from __future__ import annotations
from typing import TYPE_CHECKING
from stageflow.contracts.enforce import enforce_contract
if TYPE_CHECKING:
    from decimal import Decimal

@enforce_contract
def create(plan: Plan, plans: list[Plan]) -> Plan:
    return plan

@enforce_contract
def price(amount: Decimal) -> None: ...

class Plan: ...
"""


def test_postponed_annotations_are_resolved_or_refused(tmp_path: Path) -> None:
    """``from __future__ import annotations`` turns all of them into strings."""
    path = tmp_path / "postponed.py"
    path.write_text(_module)
    spec = importlib.util.spec_from_file_location("postponed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plan = module.Plan()

    assert module.create(plan, [plan]) is plan
    with pytest.raises(ContractViolationError, match=r"plans\[0\]"):
        module.create(plan, [3])
    with pytest.raises(ContractDefinitionError, match="Decimal"):
        module.price(3)


# Coroutines and generators


def test_the_result_of_a_coroutine_function_is_checked_after_it_was_awaited() -> None:
    """An async boundary is a boundary."""

    @enforce_contract
    async def create(plan: Plan) -> Record:
        await asyncio.sleep(0)
        return Record() if plan.name else plan  # type: ignore[return-value]

    @enforce_contract(params={"plan": Plan})
    async def unchecked(plan: Plan) -> object:
        return plan

    assert inspect.iscoroutinefunction(create)
    assert asyncio.run(create(Plan())) == Record()
    assert asyncio.run(unchecked(Plan())) == Plan()
    with pytest.raises(ContractViolationError, match="return value must be Record, got Plan"):
        asyncio.run(create(Plan(name="")))
    with pytest.raises(ContractViolationError, match="'plan'"):
        asyncio.run(create(3))  # type: ignore[arg-type]


def test_what_a_generator_yields_is_checked_one_by_one() -> None:
    """The bad element is named by its number; those before it were delivered."""
    closed: list[bool] = []

    @enforce_contract
    def plans(values: list[object]) -> Iterator[Plan]:
        try:
            yield from values  # type: ignore[misc]
        finally:
            closed.append(True)

    got: list[Plan] = []
    assert list(plans([Plan(), LargePlan()])) == [Plan(), LargePlan()]
    with pytest.raises(ContractViolationError, match=r"yield\[1\] in return value must be Plan, got int \(3\)"):
        got.extend(plans([Plan(), 3]))
    assert closed == [True, True]


def test_a_generator_function_checks_its_arguments_when_it_is_called() -> None:
    """The error shows the caller who passed the value, not the one who iterates."""

    @enforce_contract
    def plans(plan: Plan) -> Generator[Plan, None, None]:
        yield plan

    with pytest.raises(ContractViolationError, match="'plan'"):
        plans(3)  # type: ignore[arg-type]


def test_a_generator_hands_on_what_is_sent_thrown_and_returned() -> None:
    """The wrapper is as transparent as ``yield from``."""

    @enforce_contract
    def echo() -> Generator[object, object, int]:
        got: object = None
        while got != "stop":
            try:
                got = yield got
            except KeyError as error:
                got = repr(error)
        return 3

    generator = echo()
    assert next(generator) is None
    assert generator.send("a") == "a"
    assert generator.throw(KeyError("b")) == "KeyError('b')"
    with pytest.raises(StopIteration) as stop:
        generator.send("stop")
    assert stop.value.value == 3
    generator = echo()
    next(generator)
    with pytest.raises(ValueError, match="out"):
        generator.throw(ValueError("out"))
    generator = echo()
    next(generator)
    generator.close()
    assert list(generator) == []


def test_the_value_that_ends_a_generator_is_checked() -> None:
    """The third type of ``Generator`` is part of the contract, the first being anything or not."""

    @enforce_contract
    def anything() -> Generator[Any, None, int]:
        yield 1
        return "a"  # type: ignore[return-value]

    @enforce_contract
    def number() -> Generator[int, None, Plan]:
        yield 1
        return 3  # type: ignore[return-value]

    with pytest.raises(ContractViolationError, match="return value must be int, got str"):
        list(anything())
    with pytest.raises(ContractViolationError, match="return value must be Plan, got int"):
        list(number())


@pytest.mark.parametrize("hint", [Any, object, Iterator, Iterable[Any], typing.Iterator, Generator])
def test_a_generator_of_anything_yields_anything(hint: Any) -> None:
    """What is declared as anything is not wrapped."""

    def numbers() -> Iterator[object]:
        yield 1

    assert list(enforce_contract(returns=hint)(numbers)()) == [1]


@pytest.mark.parametrize("hint", [list[int], int, Iterator[int] | None, None.__class__])
def test_a_generator_function_must_say_that_it_yields(hint: Any) -> None:
    """It returns a generator, whatever else is written there."""

    def numbers() -> Iterator[int]:
        yield 1

    async def async_numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ContractDefinitionError, match=r"a generator function returns Iterator\[X\] or .* not "):
        enforce_contract(returns=hint)(numbers)
    with pytest.raises(ContractDefinitionError, match=r"a generator function returns AsyncIterator\[X\] or .* not "):
        enforce_contract(returns=hint)(async_numbers)


def test_what_an_async_generator_yields_is_checked() -> None:
    """Async streams are held to the same contract."""
    closed: list[bool] = []

    @enforce_contract
    async def plans(values: list[object]) -> AsyncIterator[Plan]:
        try:
            for value in values:
                yield value  # type: ignore[misc]
        finally:
            closed.append(True)

    async def collect(values: list[object]) -> list[Plan]:
        return [plan async for plan in plans(values)]

    assert asyncio.run(collect([Plan(), LargePlan()])) == [Plan(), LargePlan()]
    with pytest.raises(ContractViolationError, match=r"yield\[1\] in return value must be Plan, got int"):
        asyncio.run(collect([Plan(), 3]))
    with pytest.raises(ContractViolationError, match="'values'"):
        plans(3)  # type: ignore[arg-type]
    assert closed == [True, True]


def test_an_async_generator_hands_on_what_is_sent_and_thrown() -> None:
    """The wrapper is as transparent as a plain async generator."""

    @enforce_contract
    async def echo() -> AsyncGenerator[str, str]:
        got = "first"
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = repr(error)

    async def talk() -> None:
        generator = echo()
        assert await anext(generator) == "first"
        assert await generator.asend("a") == "a"
        assert await generator.athrow(KeyError("b")) == "KeyError('b')"
        with pytest.raises(ValueError, match="out"):
            await generator.athrow(ValueError("out"))
        generator = echo()
        await anext(generator)
        await generator.aclose()

    asyncio.run(talk())


def test_a_checked_generator_can_be_a_context_manager() -> None:
    """``contextlib`` drives generators by ``throw``."""

    @contextlib.contextmanager
    @enforce_contract
    def opened(plan: Plan) -> Iterator[Plan]:
        with contextlib.suppress(KeyError):
            yield plan

    with opened(Plan()) as plan:
        assert plan == Plan()
        raise KeyError


# Cost


def test_typeguard_is_loaded_only_when_it_is_needed() -> None:
    """Plain contracts cost no import of a type checker and of unittest.mock."""
    code = """
import sys
from stageflow.contracts.enforce import enforce_contract
from typing import Protocol
class Port(Protocol):
    def save(self) -> None: ...
class Real:
    def save(self) -> None: ...
@enforce_contract
def plain(x: int, y: list[str] | None = None) -> dict[str, int]: return {"a": x}
@enforce_contract
def port(x: Port) -> None: ...
plain(1, ["a"])
assert "typeguard" not in sys.modules and "unittest" not in sys.modules
port(Real())
assert "typeguard" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})  # noqa: S603 - our own


class _Kind(Enum):
    A = 1


def test_plain_enums_are_classes_like_any_other() -> None:
    """An enum member fits its enum, its value does not."""
    assert _accepts(_Kind, _Kind.A)
    assert not _accepts(_Kind, 1)
