"""The model of the protocol: its states and steps within bounds, explored whole, and the broken variants it catches."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from benchmarks.measurement import Measurement, say
from benchmarks.request import Request
from stageflow.contracts.base import JsonObject
from tests.model.configurations import BROKEN, FULL, SMALL, bounds_as_settings
from tests.model.explore import explore


class ModelRequest(Request):
    """What is explored."""

    uses_store: ClassVar[bool] = False

    small: bool = Field(default=False, description="the bounds of the test suite only")


def measure(request: ModelRequest) -> Iterator[Measurement]:
    """Explore the model within bounds, one line each, with the seconds it took and the broken variants caught."""
    caught: JsonObject = {}
    for variant, bounds in BROKEN.items():
        found = explore(bounds)
        caught[variant.value] = None if found.broken is None else str(found.broken)
        say(f"{variant.value}: {found.broken}")
    for name, bounds in (SMALL if request.small else FULL).items():
        say(f"{name}: exploring")
        found = explore(bounds)
        details: JsonObject = {
            "states": found.states,
            "transitions": found.transitions,
            "ends": found.ends,
            "broken": None if found.broken is None else str(found.broken),
            "caught": caught,
        }
        yield Measurement.of(
            f"model.{name}", "s", [found.seconds], settings=request.settings() | bounds_as_settings(bounds), details=details
        )
