"""W5: what a checked call costs above a plain one."""

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from beartype import beartype
from pydantic import Field

from benchmarks.measurement import Measurement, rounds
from benchmarks.request import Request
from stageflow import Contract, enforce_contract

LIST_LENGTH: Final = 100
_LISTS_SHARE: Final = 10
"""The list is checked so many times less often: its checks take longer."""


class Order(Contract):
    """A parameter."""

    index: int


class Customer(Contract):
    """Another parameter."""

    name: str


class Receipt(Contract):
    """A result."""

    index: int


class Plain:
    """Methods that check nothing."""

    def take(self, order: Order, customer: Customer) -> Receipt:  # noqa: ARG002  the work is none
        """Take two models, return one."""
        return _RECEIPT

    def take_many(self, orders: list[Order]) -> Receipt:  # noqa: ARG002  the work is none
        """Take a list of models, return one."""
        return _RECEIPT


class Enforced:
    """The same methods under our contracts."""

    @enforce_contract(params={"order": Order, "customer": Customer}, returns=Receipt)
    def take(self, order: Order, customer: Customer) -> Receipt:  # noqa: ARG002  the work is none
        """Take two models, return one."""
        return _RECEIPT

    @enforce_contract(params={"orders": list[Order]}, returns=Receipt)
    def take_many(self, orders: list[Order]) -> Receipt:  # noqa: ARG002  the work is none
        """Take a list of models, return one."""
        return _RECEIPT


class Beartyped:
    """The same methods under beartype's default, which looks at one item of a list."""

    @beartype
    def take(self, order: Order, customer: Customer) -> Receipt:  # noqa: ARG002  the work is none
        """Take two models, return one."""
        return _RECEIPT

    @beartype
    def take_many(self, orders: list[Order]) -> Receipt:  # noqa: ARG002  the work is none
        """Take a list of models, return one."""
        return _RECEIPT


_RECEIPT: Final = Receipt(index=1)
_ORDER: Final = Order(index=1)
_CUSTOMER: Final = Customer(name="ada")
_ORDERS: Final = [Order(index=index) for index in range(LIST_LENGTH)]


class ContractRequest(Request):
    """Calls in this process; no store and no worker takes part."""

    uses_store: ClassVar[bool] = False

    rounds: int = Field(default=7, ge=1, description="how often each figure is taken")
    calls: int = Field(default=200_000, ge=1, description="calls of a round")


def measure(request: ContractRequest) -> Iterator[Measurement]:
    """W5: nanoseconds of a checked call above the plain one, ours and beartype's; two models, and a list of 100."""
    checked: dict[str, Any] = {"enforce_contract": Enforced(), "beartype": Beartyped()}
    above: dict[str, list[float]] = {f"{kind}.{name}": [] for kind in ("models", "list") for name in checked}
    plain = Plain()
    lists = max(1, request.calls // _LISTS_SHARE)
    for _ in rounds(request.rounds, "contract"):
        for name, methods in checked.items():
            bare = _nanoseconds(plain.take, (_ORDER, _CUSTOMER), request.calls)
            above[f"models.{name}"].append(_nanoseconds(methods.take, (_ORDER, _CUSTOMER), request.calls) - bare)
            bare = _nanoseconds(plain.take_many, (_ORDERS,), lists)
            above[f"list.{name}"].append(_nanoseconds(methods.take_many, (_ORDERS,), lists) - bare)
    for name, samples in above.items():
        yield Measurement.of(f"contract.{name}", "ns", samples, settings={"calls": request.calls, "rounds": request.rounds})


def _nanoseconds(call: Callable[..., object], arguments: tuple[object, ...], count: int) -> float:
    """Return the mean time of a call, the loop around it included."""
    turns = range(count)
    start = time.perf_counter_ns()
    for _ in turns:
        call(*arguments)
    return (time.perf_counter_ns() - start) / count
