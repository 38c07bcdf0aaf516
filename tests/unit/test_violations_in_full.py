"""What a refused value is told, word for word, for each form of type; and which values just pass."""

import collections
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Generic, Literal, NotRequired, Protocol, TextIO, TypedDict, TypeVar
from unittest.mock import Mock

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from stageflow.contracts.enforce import enforce_contract
from stageflow.errors import ContractViolationError


class Plan(BaseModel):
    """A model."""

    name: str = "p"

    class Part(BaseModel):
        """A model inside of it."""


class LargePlan(Plan):
    """A model below it."""


class Color(StrEnum):
    """Text that is more."""

    RED = "red"


class Level(IntEnum):
    """A number that is more."""

    LOW = 1


ItemT = TypeVar("ItemT")
OtherT = TypeVar("OtherT")
ItemT_co = TypeVar("ItemT_co", covariant=True)
PlanT = TypeVar("PlanT", bound=Plan)


class Job(BaseModel, Generic[ItemT]):
    """A generic model."""

    item: ItemT


class View(BaseModel, Generic[ItemT_co]):
    """A generic model that only gives."""

    item: ItemT_co


class Both(BaseModel, Generic[ItemT, OtherT]):
    """A generic model of two parameters."""

    item: ItemT
    other: OtherT


class Options(TypedDict):
    """A typed dictionary."""

    limit: int
    most: int
    note: NotRequired[str]


Tree = TypeAliasType("Tree", "dict[str, int | Tree]")


class Saves(Protocol):
    """A port of two methods."""

    def load(self) -> int:
        """Load it."""

    def save(self, plan: Plan) -> None:
        """Save it."""


class Named(Protocol):
    """A port of a method and two attributes."""

    name: str
    kinds: ClassVar[int]

    def rename(self, name: str) -> None:
        """Give it a name."""


class Shown:
    """A base whose objects look the same in every process."""

    def __repr__(self) -> str:
        return "it"


class Port(Shown):
    """A peer that has all of both ports."""

    name: str = "a"
    kinds: ClassVar[int] = 1

    def load(self) -> int:
        """Load it."""
        return 1

    def save(self, plan: Plan) -> None:
        """Save it."""

    def rename(self, name: str) -> None:
        """Give it a name."""


def _with(**members: Any) -> Any:
    """Return a peer whose class has other members."""
    return type("Peer", (Port,), members)()


class OnlyLoads(Shown):
    """A peer without one of the methods."""

    def load(self) -> int:
        """Load it."""
        return 1


class AnswersToAll(Shown):
    """A thing without members of its own."""

    def __getattr__(self, name: str) -> Any:
        return 1


class Ports(type):
    """What makes classes that are peers themselves."""

    def load(cls) -> int:
        """Load it."""
        return 1

    def save(cls, plan: Plan) -> None:
        """Save it."""


class PortItself(metaclass=Ports):
    """A class that is a peer."""


def _takes(hint: Any, value: object) -> bool:
    def function(value: object) -> object:
        return value

    try:
        return enforce_contract(params={"value": hint})(function)(value) is value
    except ContractViolationError:
        return False


def _told(hint: Any, value: object) -> str:
    def function(value: object) -> None: ...

    with pytest.raises(ContractViolationError) as caught:
        enforce_contract(params={"value": hint})(function)(value)
    return str(caught.value).removeprefix(f"{function.__qualname__}: ")


def _local() -> tuple[type, object]:
    class Outer(Shown):
        class Inner(Shown):
            """A class inside a class inside a function."""

    return Outer.Inner, Outer()


_inner, _outer = _local()
_other_plan = type("Plan", (Shown,), {"__module__": "elsewhere"})()

_refused: list[tuple[Any, object, str, str, str]] = [
    # what is expected, what is passed, where it is said to be, what it should be, what it is
    (int, True, "value", "int", "bool (True)"),
    (int, None, "value", "int", "None"),
    (float, "1", "value", "float", "str ('1')"),
    (complex, True, "value", "complex", "bool (True)"),
    (None, 0, "value", "None", "int (0)"),
    (_inner, _outer, "value", "Outer.Inner", "Outer (it)"),
    (Plan.Part, {"a": 1}, "value", "Plan.Part", "dict ({'a': 1})"),
    (Plan, _other_plan, "value", f"{__name__}.Plan", "elsewhere.Plan (it)"),
    (Plan | int, _other_plan, "value", f"{__name__}.Plan | builtins.int", "elsewhere.Plan (it)"),
    (typing.Never, 3, "value", "no value at all", "int (3)"),
    (list[int] | dict[str, int], 3, "value", "list[int] | dict[str, int]", "int (3)"),
    (dict[str, int] | list[int], ["a"], "value[0]", "int", "str ('a')"),
    (dict[str, int] | list[int], {"a": "b"}, "value['a']", "int", "str ('b')"),
    (Literal["a", "b"], "c", "value", "Literal['a', 'b']", "'c'"),
    (Literal["a"], 3, "value", "Literal['a']", "int (3)"),
    (Literal["a"], None, "value", "Literal['a']", "None"),
    (Literal[1], True, "value", "Literal[1]", "bool (True)"),
    (list[int], 3, "value", "list[int]", "int (3)"),
    (list[int], [1, "a", "b"], "value[1]", "int", "str ('a')"),
    (list[int], [None], "value[0]", "int", "None"),
    (list[None], [None, 1], "value[1]", "None", "int (1)"),
    (set[int], {"a"}, "list(value)[0]", "int", "str ('a')"),
    (frozenset[int], [1], "value", "frozenset[int]", "list ([1])"),
    (Sequence[int], (1, "a"), "value[1]", "int", "str ('a')"),
    (Iterable[int], ["a"], "value[0]", "int", "str ('a')"),
    (Iterable[int], {1, "a"} - {1}, "list(value)[0]", "int", "str ('a')"),
    (Collection[int], print, "value", "Collection[int]", "builtin_function_or_method (<built-in function print>)"),
    (tuple[int, ...], (1, "a"), "value[1]", "int", "str ('a')"),
    (tuple[int, str], [1, "a"], "value", "tuple[int, str]", "list ([1, 'a'])"),
    (tuple[int, str], (1,), "value", "tuple[int, str]", "a tuple of length 1 ((1,))"),
    (tuple[int, str], (1, "a", 2), "value", "tuple[int, str]", "a tuple of length 3 ((1, 'a', 2))"),
    (tuple[int, str], (1, 2), "value[1]", "str", "int (2)"),
    (tuple[int, str], ("b", "a"), "value[0]", "int", "str ('b')"),
    (dict[str, int], [("a", 1)], "value", "dict[str, int]", "list ([('a', 1)])"),
    (dict[str, int], {"a": 1, 2: 3}, "list(value)[1]", "str", "int (2)"),
    (dict[str, int], {"a": 1, "b": "c"}, "value['b']", "int", "str ('c')"),
    (dict[None, int], {None: 1, 2: 3}, "list(value)[1]", "None", "int (2)"),
    (dict[str, None], {"a": None, "b": 3}, "value['b']", "None", "int (3)"),
    (Mapping[str, int], types.MappingProxyType({"a": "b"}), "value['a']", "int", "str ('b')"),
    (Options, 3, "value", "Options", "int (3)"),
    (Options, {"limit": 1, "most": "a"}, "value['most']", "int", "str ('a')"),
    (Options, {}, "value", "Options", "dict ({}): it has no key 'limit'"),
    (Options, {"limit": 1}, "value", "Options", "dict ({'limit': 1}): it has no key 'most'"),
    (
        Options,
        {"limit": 1, "most": 2, "y": 3, "x": 4},
        "value",
        "Options",
        "dict ({'limit': 1, 'most': 2, 'x': 4, 'y': 3}): 'x' is not one of its keys",
    ),
    (type[Plan], Plan(), "value", "type[Plan]", "Plan (Plan(name='p'))"),
    (type[Plan], Color, "value", "type[Plan]", "type[Color] (<enum 'Color'>)"),
    (Tree, {"a": {"b": {"c": "d"}}}, "value['a']['b']['c']", "int | Tree", "str ('d')"),
    (Tree, {"a": {1: 2}}, "list(value['a'])[0]", "str", "int (1)"),
    (Job[int], Job[str](item="a"), "value", "Job[int]", "Job[str] (Job[str](item='a'))"),
    (Job[int], Plan(), "value", "Job[int]", "Plan (Plan(name='p'))"),
    (Saves, OnlyLoads(), "value", "Saves", "OnlyLoads (it): it has no method 'save'"),
    (Saves, AnswersToAll(), "value", "Saves", "AnswersToAll (it): it has no method 'load'"),
    (Saves, _with(load=3), "value", "Saves", "Peer (it): its 'load' is not a method"),
    (list[Named], [_with(kinds="b")], "value[0].kinds", "int", "str ('b')"),
    (Named, _with(name=None), "value.name", "str", "None"),
    (
        Named,
        types.SimpleNamespace(name="a", rename=print),
        "value",
        "Named",
        "SimpleNamespace (namespace(name='a', rename=<built-in function print>)): it has no attribute 'kinds'",
    ),
    (Saves, Port, "value", "Saves", f"type ({Port!r}): it is a class; pass an instance of it"),
    (Callable[[int], str], 3, "value", "Callable[[int], str]", "int (3): int is not callable"),
    (Callable[..., str], None, "value", "Callable[..., str]", "None"),
    (TextIO, 3, "value", "TextIO", "int (3): int is not a text based I/O object"),
    (typing.IO[str], "a", "value", "IO[str]", "str ('a'): str is not a text based I/O object"),
]


@pytest.mark.parametrize(("hint", "value", "place", "expected", "got"), _refused)
def test_a_refusal_says_where_what_is_expected_and_what_came(
    hint: Any, value: object, place: str, expected: str, got: str
) -> None:
    """Who reads the message needs no debugger: the place, the type, the value and the advice are in it."""
    where = "parameter 'value'" if place == "value" else f"{place} in parameter 'value'"

    assert _told(hint, value) == f"{where} must be {expected}, got {got}. Pass {expected}; nothing is converted here."


def _lacks_a_parameter(self: object) -> None: ...


_mock = "a mock answers to every name; pass a real object, or a fake that has the methods"


@pytest.mark.parametrize(
    ("hint", "value", "expected", "got", "why"),
    [
        (Saves, _with(save=_lacks_a_parameter), "Saves", "Peer (it)", "has too few positional arguments"),
        (Named, _with(rename=_lacks_a_parameter), "Named", "Peer (it)", "has too few positional arguments"),
        (type[Saves], OnlyLoads, "type[Saves]", f"type ({OnlyLoads!r})", "has no method named 'save'"),
        (Callable[[int, int], str], _lacks_a_parameter, "Callable[[int, int], str]", "function", "has too few arguments"),
        (Saves, Mock(), "Saves", "Mock", _mock),
        (Named, Mock(spec=Port), "Named", "Mock", _mock),
        (TextIO, Mock(), "TextIO", "Mock", _mock),
        (typing.IO[str], Mock(), "IO[str]", "Mock", _mock),
    ],
)
def test_a_refusal_gives_the_reason_that_is_not_plain_from_the_types(
    hint: Any, value: object, expected: str, got: str, why: str
) -> None:
    """Where a class looks right, or a mock answers to all, the message says what is missing."""
    told = _told(hint, value)

    assert told.startswith(f"parameter 'value' must be {expected}, got {got}")
    assert why in told
    assert told.endswith(f". Pass {expected}; nothing is converted here.")


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 1),
        (int, Level.LOW),
        (bool, True),
        (float, 1),
        (float, Level.LOW),
        (complex, 1.0),
        (complex, 1),
        (int | bool, True),
        (typing.Hashable, True),
        (object, None),
        (str, Color.RED),
        (list[int] | Literal["a"], "a"),
        (list[int] | Literal["a"], [1]),
        (Plan | list[int] | None, LargePlan()),
        (Plan | list[int] | None, None),
        (list[None], [None]),
        (list[int], [Level.LOW, 1]),
        (Sequence[int], (1, 2)),
        (Sequence[int], range(2)),
        (Collection[int], {1}),
        (tuple[int, ...], (1, Level.LOW)),
        (tuple[int, str], (1, "a")),
        (tuple[()], ()),
        (dict[str, int], {Color.RED: Level.LOW}),
        (dict[str, int], collections.OrderedDict(a=1)),
        (dict[None, None], {None: None}),
        (Options, {"limit": 1, "most": 2}),
        (Options, {"limit": 1, "most": 2, "note": "a"}),
        (Options, collections.OrderedDict(limit=1, most=2)),
        (type[Plan], LargePlan),
        (type[Any], int),
        (Tree, {"a": 1}),
        (Tree, {"a": {"b": 1}}),
        (Job[int], Job[int](item=1)),
        (Job[Any], Job[int](item=1)),
        (Job[Any], Job(item=1)),
        (Job[OtherT], Job[int](item=1)),  # type: ignore[valid-type]
        (Job[PlanT], Job[LargePlan](item=LargePlan())),  # type: ignore[valid-type]
        (Job[PlanT], Job(item=1)),  # type: ignore[valid-type]
        (Both[int, Any], Both[int, str](item=1, other="a")),
        (View[Plan], View[LargePlan](item=LargePlan())),
        (View[list[int]], View[list[int]](item=[1])),
        (View[Any], View[list[int]](item=[1])),
        (Saves, Port()),
        (Saves, PortItself),
        (Saves, types.SimpleNamespace(load=print, save=print)),
        (Named, Port()),
        (Named, types.SimpleNamespace(name="a", kinds=1, rename=print)),
        (type[Saves], Port),
        (Callable[[int], str], Mock()),
        (Callable[[int], str], str),
    ],
)
def test_what_fits_passes(hint: Any, value: object) -> None:
    """Subclasses, narrower arguments and peers of a port need no conversion."""
    assert _takes(hint, value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (type[Any], 3),
        (typing.Hashable, []),
        (Literal["a", 1], 1.0),
        (Literal["a"], []),
        (Job[PlanT], Job[int](item=1)),  # type: ignore[valid-type]
        (Job[PlanT], Job[list[int]](item=[1])),  # type: ignore[valid-type]
        (Job[Plan], Job[LargePlan](item=LargePlan())),
        (Job[Plan], Job(item=1)),
        (Job[Any], View[int](item=1)),
        (Job[Any], Plan()),
        (Both[int, Any], Both[str, str](item="a", other="a")),
        (Both[int, Any], Both(item=1, other=1)),
        (View[Plan], View[Color](item=Color.RED)),
        (View[list[int]], View[list[str]](item=["a"])),
        (View[Plan], View[Any](item=Plan())),
    ],
)
def test_what_only_resembles_it_is_refused(hint: Any, value: object) -> None:
    """An equal value of another class, and a model of other arguments, are something else."""
    assert not _takes(hint, value)


def test_an_iterator_passes_unread() -> None:
    """What can be read once is the function's to read."""
    numbers: Iterator[Any] = iter(["a", 1])

    assert _takes(Iterable[int], numbers)
    assert list(numbers) == ["a", 1]


class BadOnce(list[Any]):
    """A list that shows its fault once."""

    shown = False

    def __iter__(self) -> Iterator[Any]:
        elements = [] if self.shown else ["bad"]
        self.shown = True
        return iter(elements)

    def __repr__(self) -> str:
        return "it"


class BadOnceByKey(dict[str, Any]):
    """A dictionary that shows its fault once."""

    shown = False

    def items(self) -> Any:  # noqa: D102 - a dictionary's
        entries = [] if self.shown else [("limit", "bad"), ("most", 1)]
        self.shown = True
        return entries

    def keys(self) -> Any:  # noqa: D102 - a dictionary's
        return {"limit": 1, "most": 1}.keys()

    def __repr__(self) -> str:
        return "it"


class BadOnceInPlace(tuple[Any, ...]):
    """A tuple that shows its fault once."""

    __slots__ = ()
    shown: ClassVar = False

    def __iter__(self) -> Iterator[Any]:
        elements = [1] if self.shown else ["bad"]
        type(self).shown = True
        return iter(elements)

    def __repr__(self) -> str:
        return "it"


class BadOnceByName(Port):
    """A peer that shows its fault once."""

    shown = False

    def _name(self) -> str | None:
        name = "a" if self.shown else None
        self.shown = True
        return name

    name = property(_name)


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (list[int], BadOnce(), "list[int]"),
        (dict[str, int], BadOnceByKey(), "dict[str, int]"),
        (Options, BadOnceByKey(), "Options"),
        (tuple[int], BadOnceInPlace([1]), "tuple[int]"),
        (Named, BadOnceByName(), "Named"),
    ],
)
def test_a_fault_that_is_gone_when_it_is_looked_for_is_told_of_the_whole(hint: Any, value: object, expected: str) -> None:
    """What another thread changes meanwhile stays refused, and the message is as full as any."""
    got = f"{type(value).__name__} (it)"

    assert _told(hint, value) == f"parameter 'value' must be {expected}, got {got}. Pass {expected}; nothing is converted here."


def test_a_peer_is_taken_again_and_its_attributes_are_looked_at_each_time() -> None:
    """A class is taken apart once; what differs between its objects is not."""

    @enforce_contract
    def rename(port: Named) -> None:
        port.rename("b")

    rename(Port())
    rename(Port())
    late = Port()
    late.name = 3  # type: ignore[assignment]
    with pytest.raises(ContractViolationError, match=r"port\.name in parameter 'port' must be str, got int \(3\)\."):
        rename(late)
    with pytest.raises(ContractViolationError, match="it has no method 'rename'"):
        rename(OnlyLoads())  # type: ignore[arg-type]


def test_a_wrong_port_is_refused_each_time() -> None:
    """One refusal does not make a class known as fitting."""

    @enforce_contract
    def keep(port: Saves) -> None: ...

    wrong = _with(save=_lacks_a_parameter)
    for _ in range(3):
        with pytest.raises(ContractViolationError, match="has too few positional arguments"):
            keep(wrong)
