"""A type in a message reads as a person writes it: without modules, whatever form it has."""

import io
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    BinaryIO,
    ClassVar,
    Generic,
    Literal,
    NotRequired,
    Protocol,
    Required,
    TextIO,
    TypedDict,
    TypeVar,
)
from unittest.mock import Mock

import pytest
import typing_extensions
from pydantic import BaseModel, Field, JsonValue

from stageflow.contracts.enforce import contract_of, enforce_contract
from stageflow.contracts.hints import resolve_hints
from stageflow.errors import ContractViolationError

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)
P = typing.ParamSpec("P")
PlanT = TypeVar("PlanT", bound="Plan")
AnyPlanT = TypeVar("AnyPlanT", "Plan", list["Plan"])
PlanId = typing.NewType("PlanId", int)
Tree = typing_extensions.TypeAliasType("Tree", "Plan | list[Tree]")
Forest = typing_extensions.TypeAliasType("Forest", "dict[str, Tree]")
Pair = typing_extensions.TypeAliasType("Pair", "tuple[ItemT, Plan]", type_params=(ItemT,))
_mock_fault = "a mock answers to every name; pass a real object, or a fake that has the methods"


class Plan(BaseModel):
    """What goes in."""


class Job(BaseModel, Generic[ItemT]):
    """A generic model."""

    item: ItemT


class Box(Generic[ItemT]):
    """A generic class that is no model."""


class Saves(Protocol):
    """A port."""

    def save(self, plan: Plan) -> None:
        """Save it."""


class Sized(Protocol):
    """A port of data, some of it described at length."""

    size: Annotated[int, "bytes"]
    kind: "ClassVar[str]"

    @property
    def owner(self) -> Annotated["Sized | None", "who has it"]:
        """What it belongs to."""


class Options(TypedDict):
    """A typed dictionary with its wrappers inside strings, one of them in another."""

    limit: int
    note: "NotRequired[str]"
    rest: "typing_extensions.ReadOnly[NotRequired[Options]]"
    plan: "Annotated[Required[Plan], 'wanted']"


class Request(TypedDict):
    """A typed dictionary in which there is another, with a key of the same name."""

    options: Options
    note: NotRequired[int]


class Holds(Protocol):
    """A port in which there is another."""

    owner: Saves


class Gives(Protocol[ItemT_co]):
    """A generic port."""

    def give(self, count: int) -> ItemT_co:
        """Give some."""


class Thing:
    """Has the shape of both protocols."""

    kind: object = "a"

    def __init__(self, size: object = 1, owner: object = None) -> None:
        self.size = size
        self.owner = owner

    def save(self, plan: Plan) -> None:
        """Save it."""


def _violation(hint: Any, value: object) -> ContractViolationError:
    def take(value: object) -> None: ...

    with pytest.raises(ContractViolationError) as caught:
        enforce_contract(params={"value": hint})(take)(value)
    return caught.value


def _passes(hint: Any, value: object) -> bool:
    def give(value: object) -> object:
        return value

    return enforce_contract(params={"value": hint})(give)(value) is value


class Nothing:
    """Fits none of the types."""

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (None, "None"),
        (type(None), "None"),
        (int, "int"),
        (Plan, "Plan"),
        ("Plan", "Plan"),
        (int | None, "int | None"),
        (typing.Optional[Plan], "Plan | None"),  # noqa: UP045 - the other way to write it
        (typing.Union[Plan, list[int]], "Plan | list[int]"),  # noqa: UP007 - the other way to write it
        (list[Plan] | dict[str, Plan], "list[Plan] | dict[str, Plan]"),
        (list, "list"),
        (list[int], "list[int]"),
        (list[Any], "list[Any]"),
        (typing.List, "list"),  # noqa: UP006
        (typing.List[int], "list[int]"),  # noqa: UP006
        (list[typing.List], "list[list]"),  # type: ignore[type-arg]  # noqa: UP006
        (list[None], "list[None]"),
        (list[typing.Never], "list[Never]"),
        (list[Annotated[int, Field(gt=0)]], "list[int]"),
        (list[Literal["a", 1]], "list[Literal['a', 1]]"),
        (list[PlanId], "list[PlanId]"),
        (list[ItemT], "list[ItemT]"),  # type: ignore[valid-type]
        (list[Tree], "list[Tree]"),
        (list[Pair[int]], "list[Pair[int]]"),
        (set[int], "set[int]"),
        (deque[int], "deque[int]"),
        (Sequence[int], "Sequence[int]"),
        (Iterator[int], "Iterator[int]"),
        (dict, "dict"),
        (dict[str, int], "dict[str, int]"),
        (Mapping[str, Any], "Mapping[str, Any]"),
        (defaultdict[str, int], "defaultdict[str, int]"),
        (OrderedDict[str, int], "OrderedDict[str, int]"),
        (Counter, "Counter"),
        (Counter[str], "Counter[str]"),
        (tuple, "tuple"),
        (tuple[int, str], "tuple[int, str]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[Any, ...], "tuple[Any, ...]"),
        (tuple[()], "tuple[()]"),
        (list[tuple[()]], "list[tuple[()]]"),
        (typing.Tuple, "tuple"),  # noqa: UP006
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, "x"], "int"),
        (typing.LiteralString, "str"),
        (typing.TypeGuard[int], "bool"),
        (typing_extensions.TypeIs[int], "bool"),
        (typing.Never, "no value at all"),
        (typing.NoReturn, "no value at all"),
        (PlanT, "Plan"),
        (AnyPlanT, "Plan | list[Plan]"),
        (PlanId, "int"),
        (Tree, "Plan | list[Tree]"),
        (Forest, "dict[str, Tree]"),
        (Pair[int], "tuple[int, Plan]"),
        (Pair[Pair[int]], "tuple[Pair[int], Plan]"),
        (type, "type"),
        (type[Plan], "type[Plan]"),
        (type[Any], "type[Any]"),
        (type[Plan | None], "type[Plan | None]"),
        (type[Saves], "type[Saves]"),
        (type[Saves | Plan], "type[Saves | Plan]"),
        (Job, "Job"),
        (Job[int], "Job[int]"),
        (Box[int], "Box[int]"),
        (Saves, "Saves"),
        (Sized, "Sized"),
        (Options, "Options"),
        (typing.Hashable, "Hashable"),
        (Awaitable[int], "Awaitable[int]"),
        (Callable, "Callable"),
        (Callable[..., int], "Callable[..., int]"),
        (Callable[[], None], "Callable[[], None]"),
        (Callable[[int, Plan], None], "Callable[[int, Plan], None]"),
        (Callable[P, int], "Callable[~P, int]"),
        (TextIO, "TextIO"),
        (BinaryIO, "BinaryIO"),
        (typing.IO, "IO"),
        (typing.IO[str], "IO[str]"),
        (
            JsonValue,
            "list[JsonValue] | dict[str, JsonValue] | str | bool | int | float | None",
        ),
    ],
    ids=str,
)
def test_a_type_is_written_as_a_person_writes_it(hint: Any, words: str) -> None:
    """Whoever reads the message finds the type in the code."""
    error = _violation(hint, Nothing())

    assert error.expected == words
    assert error.path == "value"
    assert f"parameter 'value' must be {words}, got {error.actual} (" in str(error)
    assert str(error).endswith(f". Pass {words}; nothing is converted here.")


@pytest.mark.parametrize(
    ("hint", "value", "path", "words", "actual"),
    [
        (Counter[str], Counter({"a": 1.5}), "value['a']", "int", "float"),
        (Counter[str], Counter({1: 1}), "list(value)[0]", "str", "int"),
        (Mapping[str, int], {"a": None}, "value['a']", "int", "None"),
        (list[None], [3], "value[0]", "None", "int"),
        (list[typing.LiteralString], [3], "value[0]", "str", "int"),
        (list[typing.TypeGuard[int]], [3], "value[0]", "bool", "int"),
        (tuple[()], (1,), "value", "tuple[()]", "a tuple of length 1"),
        (tuple[int, ...], (1, "a"), "value[1]", "int", "str"),
        (Pair[int], (1, 2), "value[1]", "Plan", "int"),
        (Pair[int], ("a", Plan()), "value[0]", "int", "str"),
        (Pair[Pair[int]], ((1, 2), Plan()), "value[0][1]", "Plan", "int"),
        (Request, {"options": {"note": 3}}, "value['options']", "Options", "dict"),
        (Request, {"options": {"limit": 1, "plan": Plan()}, "note": "a"}, "value['note']", "int", "str"),
        (Holds, Thing(owner=3), "value.owner", "Saves", "int"),
        (list[Tree], [[Plan(), [3]]], "value[0][1][0]", "Plan | list[Tree]", "int"),
        (Forest, {"a": [{}]}, "value['a'][0]", "Plan | list[Tree]", "dict"),
        (AnyPlanT, [3], "value[0]", "Plan", "int"),
        (type[AnyPlanT], int, "value", "type[AnyPlanT]", "type[int]"),
        (type[PlanT], int, "value", "type[PlanT]", "type[int]"),
        (Plan | list[int], [1, "a"], "value[1]", "int", "str"),
        (Options, {"limit": 1, "plan": 3}, "value['plan']", "Plan", "int"),
        (Options, {"limit": 1, "plan": Plan(), "rest": 3}, "value['rest']", "Options", "int"),
    ],
)
def test_the_type_of_an_element_is_written_where_the_element_is_wrong(
    hint: Any, value: object, path: str, words: str, actual: str
) -> None:
    """The path leads to the element, the type is the element's."""
    error = _violation(hint, value)

    assert (error.path, error.expected, error.actual) == (path, words, actual)


def test_a_key_is_required_unless_its_wrapper_says_otherwise() -> None:
    """Wrappers count inside strings and inside each other."""
    plan = Plan()

    assert _passes(Options, {"limit": 1, "plan": plan})
    assert _passes(Options, {"limit": 1, "plan": plan, "note": "a", "rest": {"limit": 2, "plan": plan}})
    assert "got dict ({}): it has no key 'limit'. Pass Options" in str(_violation(Options, {}))
    assert "it has no key 'plan'. Pass Options" in str(_violation(Options, {"limit": 1}))
    assert "'more' is not one of its keys. Pass Options" in str(_violation(Options, {"limit": 1, "plan": plan, "more": 1}))


class OptionalOptions(TypedDict, total=False):
    """A typed dictionary whose keys may all be left out but one."""

    limit: int
    name: "Required[str]"
    plan: "Annotated[Required[Plan], 'wanted']"


def test_a_key_is_not_required_unless_its_wrapper_says_so() -> None:
    """``total=False`` is read like its opposite."""
    assert _passes(OptionalOptions, {"name": "a", "plan": Plan()})
    assert "it has no key 'name'" in str(_violation(OptionalOptions, {"limit": 1, "plan": Plan()}))
    assert "it has no key 'plan'" in str(_violation(OptionalOptions, {"name": "a"}))


def test_the_data_of_a_protocol_is_checked_behind_its_wrappers() -> None:
    """Annotations that say more than a type, and types that name themselves, are looked through."""
    odd = Thing()
    odd.kind = 3

    assert _passes(Sized, Thing(owner=Thing()))
    for value, path, words in [
        (Thing(size=True), "value.size", "int"),
        (odd, "value.kind", "str"),
        (Thing(owner=3), "value.owner", "Sized | None"),
        (Thing(owner=Thing(owner=Thing(size="a"))), "value.owner.owner.size", "int"),
    ]:
        error = _violation(Sized, value)
        assert (error.path, error.expected) == (path, words)


def test_a_method_of_the_wrong_shape_is_told_with_the_protocols_name() -> None:
    """The reason names the class that came and the port that it does not fit."""

    class Fails:
        def save(self) -> None: ...

    error = _violation(Saves, Fails())

    assert f"got {Fails.__name__} (" in str(error)
    assert (
        f"{__name__}.{Fails.__qualname__} is not compatible with the Saves protocol because its 'save' method has too few "
        "positional arguments. Pass Saves; nothing is converted here."
    ) in str(error)


def test_a_generic_protocol_is_a_shape_like_any_other() -> None:
    """What its parameter stands for is not looked at, its methods are."""

    class Fits:
        def give(self, count: int) -> int:
            return count

    class Fails:
        def give(self) -> int:
            return 1

    assert _passes(Gives[int], Fits())
    assert "is not compatible with the Gives protocol because its 'give' method has too few" in str(
        _violation(Gives[int], Fails())
    )


def test_a_protocol_inside_a_function_is_named_without_its_surroundings() -> None:
    """Its short name is what its users write."""

    class Inner(Protocol):
        def save(self, plan: Plan) -> None: ...

    class Fails:
        def save(self) -> None: ...

    error = _violation(Inner, Fails())

    assert error.expected == "Inner"
    assert f"{Fails.__qualname__} is not compatible with the Inner protocol because" in str(error)


@pytest.mark.parametrize("hint", [TextIO, BinaryIO, typing.IO, typing.IO[str], Saves, type[Saves]], ids=str)
def test_a_mock_is_refused_with_what_to_pass_instead(hint: Any) -> None:
    """Files and ports are crossed by real objects."""
    mocks: list[Mock] = [Mock(), Mock(spec=io.StringIO), Mock(spec=Saves)]
    for mock in mocks:
        assert f": {_mock_fault}. Pass " in str(_violation(hint, mock))


@pytest.mark.parametrize("hint", [Callable, Callable[..., int], Callable[[int], int]], ids=str)
def test_a_mock_may_stand_for_a_function(hint: Any) -> None:
    """A function has no shape but its arguments, and a mock takes any."""
    assert _passes(hint, Mock())


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (TextIO, io.StringIO()),
        (BinaryIO, io.BytesIO()),
        (typing.IO[bytes], io.BytesIO()),
        (typing.IO, io.StringIO()),
        (typing.Tuple, (1, "a")),  # noqa: UP006
        (tuple[()], ()),
        (Counter[str], Counter("aa")),
        (type[Saves], Thing),
        (type[Saves | Plan], Plan),
        (type[Any], int),
        (type[AnyPlanT], list),
        (Box[int], Box()),
        (Job[int], Job[int](item=1)),
        (Plan | Any, 3),
        (dict[str, Any], {"a": object()}),
        (tuple[Any, int], (object(), 1)),
        (BaseModel, Plan()),
    ],
)
def test_what_fits_passes_untouched(hint: Any, value: object) -> None:
    """No form of a type refuses its own values."""
    assert _passes(hint, value)


def test_a_contract_is_read_back_with_all_that_was_written() -> None:
    """Constraints that are no type stay for who lists the boundaries."""
    counted = Annotated[int, "counted from 1"]

    @enforce_contract(params={"count": counted, "plan": "Plan"}, returns=list[counted])
    def create(count: int, plan: Plan) -> list[int]:
        return [count] if plan else []

    contract = contract_of(create)

    assert contract.function == create.__qualname__
    assert dict(contract.params) == {"count": counted, "plan": Plan}
    assert contract.returns == list[counted]
    assert create(1, Plan()) == [1]


def test_names_inside_strings_are_those_of_the_module_and_before_them_the_local_ones() -> None:
    """A model that is defined inside a function hides one of the same name outside."""
    hints = {"a": "Plan", "b": "list[Job]", "c": int, "d": Annotated["Plan", "here"]}
    names = {"Plan": bytes, "Job": float}

    assert resolve_hints(hints, names, {"Plan": str}) == {"a": str, "b": list[float], "c": int, "d": Annotated[str, "here"]}
    assert resolve_hints(hints, names, {})["a"] is bytes
    with pytest.raises(NameError, match="Job"):
        resolve_hints(hints, {}, {"Plan": str})
    with pytest.raises(AttributeError, match="Missing"):
        resolve_hints({"a": "io.Missing"}, {"io": io}, {})
