"""What a contract says when it is broken, or cannot be one: whole sentences, word for word, with what to do next."""

import functools
import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Literal, Protocol, TypeVar

import pytest
import typing_extensions
from pydantic import BaseModel

from stageflow.contracts.enforce import contract_of, enforce_contract
from stageflow.errors import ContractDefinitionError, ContractViolationError

ItemT = TypeVar("ItemT")
_advice = "use a type that says more, or Any"


class Plan(BaseModel):
    """What goes in."""


class Saves(Protocol):
    """A port."""

    def save(self, plan: Plan) -> None:
        """Save it."""


def _function(first: object, second: object = None) -> object:
    return first or second


def _refused(decorate: Callable[[], object]) -> str:
    with pytest.raises(ContractDefinitionError) as caught:
        decorate()
    return str(caught.value)


# Contracts that are none


def test_a_result_of_none_is_answered_with_both_readings() -> None:
    """Who writes ``returns=None`` learns how to write either meaning."""
    assert _refused(lambda: enforce_contract(returns=None)) == (
        "enforce_contract: returns=None is ambiguous; write returns=type(None), or leave it out to check no result."
    )


@pytest.mark.parametrize("thing", [Plan, functools.partial(_function), len])
def test_what_is_not_a_function_is_shown_with_the_place_for_the_decorator(thing: Any) -> None:
    """The thing is named, and so is the line to write the decorator on."""
    message = _refused(lambda: enforce_contract(thing))

    assert message.startswith("enforce_contract: ")
    assert message.endswith(
        " is not a function. Put the decorator directly above a def, below @property and other decorators that make objects."
    )
    assert any(word in message for word in ("test_contract_messages.Plan'>", "functools.partial", "built-in function len"))


def test_a_function_without_annotations_is_told_the_other_ways() -> None:
    """Nothing to check is a mistake with three ways out of it."""

    def create(plan):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return plan

    assert _refused(lambda: enforce_contract(create)) == (
        f"{create.__qualname__} has no annotations to check; annotate it, or give params= or returns= to enforce_contract."
    )


@pytest.mark.parametrize(("function", "names"), [(_function, "first, second"), (lambda: None, "none")])
def test_a_name_that_is_no_parameter_is_answered_with_those_there_are(function: Any, names: str) -> None:
    """A misspelt name is seen beside the right ones."""
    name = function.__qualname__

    assert _refused(lambda: enforce_contract(params={"third": int})(function)) == (
        f"{name} has no parameter 'third'; its parameters are {names}. Correct the name in params=."
    )


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (5, f"5 cannot be checked at run time; {_advice}"),
        ((int, 5), f"5 cannot be checked at run time; {_advice}"),
        (typing.Self, "Self cannot be checked at run time; name the class instead"),
        (list[typing.Self], "Self cannot be checked at run time; name the class instead"),  # type: ignore[misc]
        (typing_extensions.ReadOnly, f"ReadOnly cannot be checked at run time; {_advice}"),
        (typing.Final, f"Final cannot be checked at run time; {_advice}"),
        (typing.ClassVar[int], f"ClassVar[int] cannot be checked at run time; {_advice}"),
        (typing.Required[int], f"Required[int] cannot be checked at run time; {_advice}"),
        (type[5], f"type[5] cannot be checked at run time; {_advice}"),
    ],
)
def test_a_type_that_cannot_be_checked_is_named_with_its_place(hint: Any, reason: str) -> None:
    """Function, parameter or result, type and advice: nobody has to search."""
    assert _refused(lambda: enforce_contract(params={"first": hint})(_function)) == f"_function: parameter 'first': {reason}."
    assert _refused(lambda: enforce_contract(returns=hint)(_function)) == f"_function: return value: {reason}."


@pytest.mark.parametrize("hint", ["int[", (), [(), int], ("int[", None)])
def test_what_is_no_type_at_all_is_refused_with_pythons_own_reason(hint: Any) -> None:
    """A slip of the pen is found at decoration, and read in full."""
    message = _refused(lambda: enforce_contract(params={"second": hint})(_function))

    assert message.startswith("_function: ")
    assert message.endswith((". Write types, or their names.", f"; {_advice}."))
    assert "None" not in message
    assert ".." not in message


def test_a_name_that_is_never_defined_is_answered_with_where_to_import_it() -> None:
    """The first call says which name, and that ``TYPE_CHECKING`` hides it."""

    @enforce_contract(params={"plan": "Missing"})
    def create(plan: object) -> None: ...

    def call() -> None:
        create(3)

    for ask in (call, lambda: contract_of(create)):
        assert _refused(ask) == (
            f"{create.__qualname__}: a name in its contract is not defined: name 'Missing' is not defined. Import it where the "
            "function is defined, not under `if TYPE_CHECKING:`, or give the type with params= or returns=."
        )


def test_an_attribute_that_a_module_lacks_is_a_name_that_is_not_defined() -> None:
    """A late name may stand behind a dot."""

    @enforce_contract(params={"plan": "functools.Missing"})
    def create(plan: object) -> None: ...

    assert _refused(lambda: create(3)).startswith(
        f"{create.__qualname__}: a name in its contract is not defined: module 'functools' has no attribute 'Missing'. "
        "Import it"
    )


def _numbers() -> Iterator[int]:
    yield 1


async def _async_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (_numbers, "Iterator[X] or Iterable[X] or Generator[X]"),
        (_async_numbers, "AsyncIterator[X] or AsyncIterable[X] or AsyncGenerator[X]"),
    ],
)
def test_a_generator_function_is_told_what_it_may_say(function: Any, names: str) -> None:
    """What it returns is a generator; the message lists how that is written."""
    assert _refused(lambda: enforce_contract(returns=list[int])(function)) == (
        f"{function.__name__}: return value: a generator function returns {names}, not list[int]."
    )


@pytest.mark.parametrize("function", [_function, classmethod(_function)])
def test_a_function_without_a_contract_is_shown(function: Any) -> None:
    """Whose contract was asked for can be read."""
    message = _refused(lambda: contract_of(function))

    assert message.startswith("<")
    assert "_function" in message
    assert message.endswith("> has no contract; decorate it with @enforce_contract.")


# Contracts that are broken


def _broken(call: Callable[[], object]) -> ContractViolationError:
    with pytest.raises(ContractViolationError) as caught:
        call()
    return caught.value


def _facts(error: ContractViolationError) -> tuple[str | None, str, str, str, str]:
    return error.parameter, error.expected, error.actual, error.path, error.preview


@pytest.mark.parametrize(
    ("hint", "value", "said", "facts"),
    [
        (
            Plan,
            3,
            "parameter 'value' must be Plan, got int (3). Pass Plan; nothing is converted here.",
            ("Plan", "int", "value", "3"),
        ),
        (
            list[Plan],
            [3],
            "value[0] in parameter 'value' must be Plan, got int (3). Pass Plan; nothing is converted here.",
            ("Plan", "int", "value[0]", "3"),
        ),
        (
            Literal["a"],
            "b",
            "parameter 'value' must be Literal['a'], got 'b'. Pass Literal['a']; nothing is converted here.",
            ("Literal['a']", "'b'", "value", "'b'"),
        ),
        (
            Callable[..., str],
            3,
            "parameter 'value' must be Callable[..., str], got int (3). Pass Callable[..., str]; nothing is converted here.",
            ("Callable[..., str]", "int", "value", "3"),
        ),
        (
            Callable[[int], str],
            3,
            (
                "parameter 'value' must be Callable[[int], str], got int (3): int is not callable. "
                "Pass Callable[[int], str]; nothing is converted here."
            ),
            ("Callable[[int], str]", "int", "value", "3"),
        ),
        (
            Saves,
            3,
            "parameter 'value' must be Saves, got int (3): it has no method 'save'. Pass Saves; nothing is converted here.",
            ("Saves", "int", "value", "3"),
        ),
    ],
)
def test_a_wrong_argument_is_told_in_one_sentence_and_one_piece_of_advice(
    hint: Any, value: Any, said: str, facts: tuple[str, ...]
) -> None:
    """The text has it all, and so have the attributes for a program to read."""

    @enforce_contract(params={"value": hint})
    def take(value: object) -> None: ...

    error = _broken(lambda: take(value))

    assert str(error) == f"{take.__qualname__}: {said}"
    assert error.function == take.__qualname__
    assert _facts(error) == ("value", *facts)


@pytest.mark.parametrize(
    ("hint", "value", "said", "facts"),
    [
        (
            Plan,
            3,
            "return value must be Plan, got int (3). Return Plan from the function, or correct its contract.",
            (None, "Plan", "int", "return", "3"),
        ),
        (
            list[Plan],
            [3],
            "return[0] in return value must be Plan, got int (3). Return Plan from the function, or correct its contract.",
            (None, "Plan", "int", "return[0]", "3"),
        ),
        (
            type(None),
            3,
            "return value must be None, got int (3). Return None from the function, or correct its contract.",
            (None, "None", "int", "return", "3"),
        ),
    ],
)
def test_a_wrong_result_is_told_to_who_wrote_the_function(hint: Any, value: Any, said: str, facts: tuple[Any, ...]) -> None:
    """No caller is asked to pass something else."""

    @enforce_contract(returns=hint)
    def give() -> object:
        return value

    error = _broken(give)

    assert str(error) == f"{give.__qualname__}: {said}"
    assert error.function == give.__qualname__
    assert _facts(error) == facts


def test_what_a_generator_yields_and_returns_is_told_like_a_result() -> None:
    """Yielded elements are counted from 0, however many there were."""

    @enforce_contract
    def numbers(*values: object) -> Generator[int, None, str]:
        yield from values  # type: ignore[misc]
        return 3  # type: ignore[return-value]

    advice = "from the function, or correct its contract."
    for good in ([], [1], [1, 2], [1, 2, 3]):
        index = len(good)
        error = _broken(lambda good=good: list(numbers(*good, "x")))  # type: ignore[misc]
        assert str(error) == (
            f"{numbers.__qualname__}: yield[{index}] in return value must be int, got str ('x'). Return int {advice}"
        )
        assert _facts(error) == (None, "int", "str", f"yield[{index}]", "'x'")
    error = _broken(lambda: list(numbers(1)))
    assert str(error) == f"{numbers.__qualname__}: return value must be str, got int (3). Return str {advice}"
    assert _facts(error) == (None, "str", "int", "return", "3")


@pytest.mark.parametrize(
    ("arguments", "keywords", "where", "path"),
    [
        (("x",), {}, "rest[0] in parameter 'rest'", "rest[0]"),
        ((1, 2, "x"), {}, "rest[2] in parameter 'rest'", "rest[2]"),
        ((), {"a": "x"}, "more['a'] in parameter 'more'", "more['a']"),
        ((1,), {"a": 1, "b": "x"}, "more['b'] in parameter 'more'", "more['b']"),
    ],
)
def test_a_starred_argument_is_told_by_its_place_or_its_name(arguments: Any, keywords: Any, where: str, path: str) -> None:
    """The type of a starred parameter is that of one element."""

    @enforce_contract
    def call(*rest: int, **more: int) -> object:
        return rest, more

    assert call(1, 2, a=3) == ((1, 2), {"a": 3})
    error = _broken(lambda: call(*arguments, **keywords))
    assert str(error) == f"{call.__qualname__}: {where} must be int, got str ('x'). Pass int; nothing is converted here."
    assert _facts(error) == (path.partition("[")[0], "int", "str", path, "'x'")


def test_starred_arguments_of_several_types_are_checked_one_by_one() -> None:
    """Neither models nor unions are looked for in the tuple or the dictionary itself."""

    @enforce_contract
    def call(*rest: Plan | None, **more: list[Plan]) -> object:
        return rest, more

    plan = Plan()
    assert call(plan, None, a=[plan]) == ((plan, None), {"a": [plan]})
    assert _facts(_broken(lambda: call(plan, 3))) == ("rest", "Plan | None", "int", "rest[1]", "3")  # type: ignore[arg-type]
    assert _facts(_broken(lambda: call(a=[3]))) == ("more", "Plan", "int", "more['a'][0]", "3")  # type: ignore[list-item]
