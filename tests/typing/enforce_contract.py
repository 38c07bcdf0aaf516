"""A decorated function has the type of the function: checked by mypy and pyright, not run."""
# ruff: noqa: ARG001, ARG002, ARG003, ARG004 - the signatures are what counts

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar, assert_type

from pydantic import BaseModel

from stageflow.contracts.enforce import FunctionContract, contract_of, enforce_contract

P = ParamSpec("P")
T = TypeVar("T")


class Plan(BaseModel):
    """What goes in."""


class Record(BaseModel):
    """What comes out."""


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call with the parameters that the type checker knows."""
    return function(*args, **kwargs)


@enforce_contract
def bare(plan: Plan, *, limit: int = 3) -> Record:
    """Bare form."""
    return Record()


@enforce_contract()
def empty(plan: Plan, *, limit: int = 3) -> Record:
    """Empty parentheses."""
    return Record()


@enforce_contract(params={"plan": Plan, "limit": (int, str)}, returns=Record)
def named(plan: Plan, *, limit: int | str = 3) -> Record:
    """Named types."""
    return Record()


@enforce_contract
def same(value: T) -> T:
    """Stay generic."""
    return value


@enforce_contract
async def later(plan: Plan) -> Record:
    """Async."""
    return Record()


@enforce_contract
def each(plan: Plan) -> Iterator[Record]:
    """Yield."""
    yield Record()


@enforce_contract
async def each_later(plan: Plan) -> AsyncIterator[Record]:
    """Yield, async."""
    yield Record()


class Repository:
    """All kinds of methods."""

    @enforce_contract
    def method(self, plan: Plan) -> Record:
        """Bare form."""
        return Record()

    @enforce_contract(params={"plan": Plan})
    async def method_later(self, plan: Plan) -> Record:
        """Called form, async."""
        return Record()

    @classmethod
    @enforce_contract
    def class_below(cls, plan: Plan) -> Record:
        """Below."""
        return Record()

    @enforce_contract
    @classmethod
    def class_above(cls, plan: Plan) -> Record:
        """Above."""
        return Record()

    @staticmethod
    @enforce_contract
    def static_below(plan: Plan) -> Record:
        """Below."""
        return Record()

    @enforce_contract(returns=Record)
    @staticmethod
    def static_above(plan: Plan) -> Record:
        """Above."""
        return Record()


async def types_are_kept(repository: Repository, plan: Plan) -> None:
    """Each call has the result type of the plain function."""
    assert_type(bare(plan, limit=4), Record)
    assert_type(empty(plan), Record)
    assert_type(named(plan, limit="x"), Record)
    assert_type(call(bare, plan, limit=4), Record)
    assert_type(call(named, plan=plan), Record)
    assert_type(same(3), int)
    assert_type(same("x"), str)
    assert_type(await later(plan), Record)
    coroutine: Coroutine[Any, Any, Record] = later(plan)
    assert_type(await coroutine, Record)
    assert_type(each(plan), Iterator[Record])
    assert_type([record async for record in each_later(plan)], list[Record])
    assert_type(repository.method(plan), Record)
    assert_type(call(repository.method, plan=plan), Record)
    assert_type(await repository.method_later(plan=plan), Record)
    assert_type(Repository.class_below(plan), Record)
    assert_type(repository.class_above(plan), Record)
    assert_type(Repository.class_above(plan), Record)
    assert_type(Repository.static_below(plan), Record)
    assert_type(repository.static_above(plan=plan), Record)
    assert_type(contract_of(repository.method), FunctionContract)
    assert_type(contract_of(bare).function, str)


def wrong_calls_are_found(repository: Repository, plan: Plan) -> None:
    """The parameters are not lost: a wrong call is an error before it runs."""
    bare("x")  # type: ignore[arg-type]
    bare(plan, limits=4)  # type: ignore[call-arg]
    named()  # type: ignore[call-arg]
    call(bare, "x")  # type: ignore[arg-type]
    repository.method(3)  # type: ignore[arg-type]
    Repository.class_above(3)  # type: ignore[arg-type]
