"""What stands in front of a boundary function behaves as the function would, however it is written and called."""

import asyncio
import contextlib
import inspect
import traceback
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from stageflow.contracts.enforce import contract_of, enforce_contract
from stageflow.errors import ContractDefinitionError, ContractViolationError


class Plan(BaseModel):
    """What goes in."""


# Each has the same body: it returns the sum of what it got.
_signatures = [
    "first, second",
    "first, second=2",
    "first=1, second=2",
    "first, /, second",
    "first, second, /",
    "first, second=2, /",
    "first=1, /, second=2",
    "first, /, *, second",
    "first, *, second",
    "first, *, second=2",
    "*, first, second",
    "*, first=1, second",
    "first, *second",
    "first, /, *second",
    "*first, second",
    "*first, second=2",
    "first, **second",
    "first, /, **second",
    "*first, **second",
    "*, first, **second",
]
_calls: list[tuple[tuple[int, ...], dict[str, int]]] = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((1,), {"second": 3}),
    ((), {"first": 1, "second": 3}),
    ((), {"first": 1}),
    ((), {"second": 3}),
    ((1,), {"third": 3}),
    ((), {"first": 1, "third": 3}),
]


def _made(signature: str) -> Any:
    names: dict[str, Any] = {}
    exec(f"def give({signature}): return first, second", names)  # noqa: S102 - written above
    return names["give"]


def _outcome(function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> object:
    try:
        return function(*arguments, **keywords)
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("signature", _signatures)
def test_arguments_are_bound_as_python_binds_them(signature: str) -> None:
    """By place, by name or by default: the same goes in, or the same is wrong, checked or not."""
    plain = _made(signature)
    checked = enforce_contract(params={"first": int, "second": int}, returns=tuple)(plain)
    unchecked = enforce_contract(params={"first": Any}, returns=Any)(plain)

    assert inspect.signature(checked) == inspect.signature(plain)
    for arguments, keywords in _calls:
        expected = _outcome(plain, arguments, keywords)
        assert _outcome(checked, arguments, keywords) == expected
        assert _outcome(unchecked, arguments, keywords) == expected


@pytest.mark.parametrize("signature", _signatures)
def test_each_parameter_is_checked_under_its_own_name(signature: str) -> None:
    """Of two parameters, the one with the wrong value is named."""
    plain = _made(signature)
    enforced = {name: enforce_contract(params={name: int})(plain) for name in ("first", "second")}

    for arguments, keywords in _calls:
        if isinstance(expected := _outcome(plain, arguments, keywords), str):
            continue
        for place, (name, function) in enumerate(enforced.items()):
            assert function(*arguments, **keywords) == expected
            wrong = tuple("x" for _ in arguments), dict.fromkeys(keywords, "x")
            if "x" not in str(plain(*wrong[0], **wrong[1])[place]):
                continue  # nothing was passed for it
            with pytest.raises(ContractViolationError) as caught:
                function(*wrong[0], **wrong[1])
            assert caught.value.parameter == name
            assert (caught.value.expected, caught.value.actual) == ("int", "str")


def test_a_parameter_may_have_the_name_of_what_stands_in_front() -> None:
    """Names that begin like the wrapper's own are free to be used."""

    @enforce_contract
    def create(_stageflow_wrapper: int, _stageflow__resolve: int, *, _stageflow_accepts_x: int = 3, x: int = 4) -> int:
        return _stageflow_wrapper + _stageflow__resolve + _stageflow_accepts_x + x

    assert create(1, 2) == 10
    assert create(1, _stageflow__resolve=2, _stageflow_accepts_x=0, x=0) == 3
    with pytest.raises(ContractViolationError, match="parameter '_stageflow_accepts_x' must be int"):
        create(1, 2, _stageflow_accepts_x="x")  # type: ignore[arg-type]


def test_a_traceback_tells_which_contract_it_went_through() -> None:
    """The line that no file has is labelled with the function it stands in front of."""

    @enforce_contract
    def create(plan: Plan) -> None:
        raise LookupError(plan)

    @enforce_contract
    def awkward(_stageflow_wrapper: int) -> None:
        raise LookupError(_stageflow_wrapper)

    for function, value, name in [(create, Plan(), "_stageflow_wrapper"), (awkward, 3, "_stageflow__wrapper")]:
        with pytest.raises(LookupError) as caught:
            function(value)  # type: ignore[operator]
        entries = [(entry.filename, entry.name) for entry in traceback.extract_tb(caught.value.__traceback__)]
        assert entries == [
            (__file__, inspect.currentframe().f_code.co_name),  # type: ignore[union-attr]
            (f"<enforce_contract {function.__qualname__}>", name),
            (__file__, function.__name__),
        ]


def test_what_is_declared_as_anything_is_not_looked_at() -> None:
    """``Any``, ``object`` and unions with them cost nothing and refuse nothing."""

    @enforce_contract
    def give(first: Any, second: object, third: int | Any, *rest: Any, fourth: Any = None, **more: object) -> object:
        return first, second, third, rest, fourth, more

    marker = object()

    assert give(marker, 1, "a", 2, fourth=3, x=4) == (marker, 1, "a", (2,), 3, {"x": 4})
    assert contract_of(give).params["second"] is object


class _Endless(list[object]):
    def __iter__(self) -> Iterator[object]:
        raise LookupError


def test_a_collection_of_anything_is_not_looked_through() -> None:
    """To fetch its elements could be dear, and there is nothing to check in them."""

    @enforce_contract
    def give(items: Sequence[Any], rows: list[object]) -> Iterable[Any]:
        return items or rows

    items = _Endless([1])

    assert give(items, items) is items
    with pytest.raises(ContractViolationError, match=r"parameter 'rows' must be list\[object\], got int"):
        give(items, 3)  # type: ignore[arg-type]


# Coroutines


@pytest.mark.parametrize("returns", [int, Any])
def test_a_coroutine_function_stays_one_whether_its_result_is_checked_or_not(returns: Any) -> None:
    """What calls ask of a coroutine function, a scheduler for one, is true of the wrapper."""

    @enforce_contract(params={"value": int}, returns=returns)
    async def give(value: object, *, later: object = None) -> object:
        await asyncio.sleep(0)
        return later or value

    assert inspect.iscoroutinefunction(give)
    assert asyncio.run(give(3)) == 3
    assert asyncio.run(give(3, later=4)) == 4
    with pytest.raises(ContractViolationError, match="parameter 'value' must be int, got str"):
        asyncio.run(give("x"))
    if returns is int:
        with pytest.raises(ContractViolationError, match="return value must be int, got str"):
            asyncio.run(give(3, later="x"))


def test_a_plain_function_may_return_what_can_be_awaited() -> None:
    """Only a coroutine function is awaited for its result."""

    async def three() -> int:
        return 3

    @enforce_contract(returns=typing.Coroutine)
    def give() -> Any:
        return three()

    @enforce_contract(params={"value": int})
    def give_unchecked(value: int) -> Any:
        return three() if value else None

    assert not inspect.iscoroutinefunction(give)
    assert asyncio.run(give()) == asyncio.run(give_unchecked(1)) == 3


# Generators


@pytest.mark.parametrize("hint", [Iterator[int], Generator[int, str, str], Generator[Any, str, str], Generator[int, Any, Any]])
def test_a_conversation_with_a_generator_is_handed_on(hint: Any) -> None:
    """What is sent and thrown arrives, what is yielded and returned comes back, in order."""

    def talk(first: int) -> Generator[int, str, str]:
        heard: list[str] = []
        for number in range(first, first + 4):
            try:
                heard.append((yield number))
            except KeyError as error:
                heard.append(repr(error))
        return ",".join(map(str, heard))

    enforced: Any = enforce_contract(returns=hint)(talk)
    generator = enforced(5)

    assert inspect.isgenerator(enforced(5))
    assert [next(generator), generator.send("a"), generator.throw(KeyError("b")), generator.send("c")] == [5, 6, 7, 8]
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "a,KeyError('b'),c,None"


def test_a_generator_that_is_closed_or_let_down_closes_what_is_inside() -> None:
    """Whatever ends the outer one, the inner one has done its cleaning when that is over."""
    closed: list[str] = []

    @enforce_contract
    def numbers(name: str, *values: object) -> Iterator[int]:
        try:
            yield from values  # type: ignore[misc]
        finally:
            closed.append(name)

    generator = numbers("closed", 1, 2)
    assert next(generator) == 1
    generator.close()  # type: ignore[attr-defined]
    assert closed == ["closed"]
    with pytest.raises(ContractViolationError, match=r"yield\[0\]"):
        next(numbers("refused", "x"))
    assert closed == ["closed", "refused"]
    generator = numbers("thrown", 1, 2)
    next(generator)
    with pytest.raises(ValueError, match="out"):
        generator.throw(ValueError("out"))  # type: ignore[attr-defined]
    assert closed == ["closed", "refused", "thrown"]


async def _to_end(stream: Any) -> list[Any]:
    return [item async for item in stream]


def test_a_conversation_with_an_async_generator_is_handed_on() -> None:
    """What is sent and thrown arrives, and what is yielded comes back, in order."""

    @enforce_contract
    async def talk(first: int) -> AsyncGenerator[str, str]:
        got: object = first
        for _ in range(4):
            try:
                got = yield f"<{got}>"
            except KeyError as error:
                got = repr(error)

    async def converse() -> list[str]:
        generator = talk(5)
        said = [await anext(generator), await generator.asend("a"), await generator.athrow(KeyError("b"))]
        said += [await anext(generator)]
        with pytest.raises(StopAsyncIteration):
            await anext(generator)
        return said

    assert asyncio.run(converse()) == ["<5>", "<a>", "<KeyError('b')>", "<None>"]
    assert asyncio.run(_to_end(talk(5))) == ["<5>", "<None>", "<None>", "<None>"]


@pytest.mark.parametrize("good", [[], [1], [1, 2], [1, 2, 3]])
def test_the_elements_of_an_async_generator_are_counted(good: list[int]) -> None:
    """The first that does not fit is named by its number, those before it were delivered."""
    closed: list[bool] = []

    @enforce_contract
    async def numbers(*values: object) -> AsyncIterator[int]:
        try:
            for value in values:
                yield value  # type: ignore[misc]
        finally:
            closed.append(True)

    got: list[int] = []

    async def collect() -> None:
        async for number in numbers(*good, "x", 9):
            got.append(number)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ContractViolationError) as caught:
        asyncio.run(collect())

    assert got == good
    assert closed == [True]
    assert str(caught.value) == (
        f"{numbers.__qualname__}: yield[{len(good)}] in return value must be int, got str ('x'). "
        "Return int from the function, or correct its contract."
    )


@pytest.mark.parametrize("hint", [AsyncIterator[Any], AsyncIterator, Any, object])
def test_an_async_generator_of_anything_yields_anything(hint: Any) -> None:
    """What is declared as anything is not wrapped."""

    async def numbers(first: int) -> AsyncIterator[object]:
        yield first

    enforced = enforce_contract(params={"first": int}, returns=hint)(numbers)

    assert asyncio.run(_to_end(enforced(3))) == [3]
    with pytest.raises(ContractViolationError, match="parameter 'first' must be int"):
        enforced("x")  # type: ignore[arg-type]


# Names


def test_a_decorator_of_another_module_leaves_the_names_where_they_were() -> None:
    """``contextlib`` knows no ``Plan``; the function that it wraps does."""

    @enforce_contract(params={"plan": "Plan"})
    @contextlib.contextmanager
    def opened(plan: Plan) -> Iterator[Plan]:
        yield plan

    plan = Plan()

    with opened(plan) as got:
        assert got is plan
    with pytest.raises(ContractViolationError, match="parameter 'plan' must be Plan, got int"):
        opened(3)  # type: ignore[arg-type]
    assert dict(contract_of(opened).params) == {"plan": Plan}


@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_methods_keep_their_kind_and_are_held_to_what_was_given(kind: Any) -> None:
    """``params`` and ``returns`` hold for a class's and a static method too, above and below."""

    def give(*values: object) -> object:
        return values[-1]

    above = enforce_contract(params={"values": int | type}, returns=int)(kind(give))
    bare = enforce_contract(kind(_numbered))
    owner: Any = type("Owner", (), {"above": above, "bare": bare})

    assert type(above) is type(bare) is kind
    assert owner.above(3) == 3
    with pytest.raises(ContractViolationError, match="parameter 'values' must be int"):
        owner.above(3, "x") if kind is staticmethod else owner.above("x", 3)
    with pytest.raises(ContractViolationError, match="return value must be int, got type" if kind is classmethod else "int"):
        owner.above(int)
    assert owner.bare() == (1 if kind is classmethod else 0)
    with pytest.raises(ContractViolationError, match="parameter 'values'"):
        owner.bare("x")
    for name in ("above", "bare"):
        assert contract_of(inspect.getattr_static(owner, name)) == contract_of(getattr(owner, name))


def _numbered(*values: int | type) -> int:
    return len(values)


_late = """
def make(enforce_contract):
    @enforce_contract
    def numbers(value: "Late", *rest: "Late", **more: "list[Late]") -> "Iterator[Late]":
        yield from (value, *rest)
    @enforce_contract(params={"value": "Any"}, returns="Late")
    async def give(value):
        return value
    return numbers, give
"""


def test_a_contract_with_late_names_is_complete_from_the_first_call_on() -> None:
    """Generators and coroutines wait for their names like any function, and are checked in full once these are there."""
    names: dict[str, Any] = {"Iterator": Iterator, "Any": Any}
    exec(_late, names)  # noqa: S102 - written above
    made: list[Any] = list(names["make"](enforce_contract))
    numbers, give = made
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: numbers("x"), "parameter 'value' must be int"),
        (lambda: numbers(1, 2, "x"), r"rest\[1\] in parameter 'rest' must be int"),
        (lambda: numbers(1, a=["x"]), r"more\['a'\]\[0\] in parameter 'more' must be int"),
        (lambda: asyncio.run(give("x")), "return value must be int"),
    ]

    early: list[Callable[[], object]] = [lambda: numbers(3), lambda: asyncio.run(give(3))]
    for call in early:
        with pytest.raises(ContractDefinitionError, match="name 'Late' is not defined"):
            call()
    names["Late"] = int
    for _ in range(2):
        assert list(numbers(1, 2, more=[3])) == [1, 2]
        assert asyncio.run(give(3)) == 3
        for wrong, where in calls:
            with pytest.raises(ContractViolationError, match=where):
                wrong()
    assert contract_of(numbers).returns == Iterator[int]
    assert dict(contract_of(give).params) == {"value": Any}
