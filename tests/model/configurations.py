"""The bounds within which the model is explored: seconds of them in the test suite, minutes by command."""

from typing import Final

from stageflow.contracts.base import JsonObject
from tests.model.state import Bounds, Variant

_NOTHING: Final = Bounds(tasks=(2, 0), crashes=0, pauses=0, retries=0, failures=0, repairs=0)

FULL: Final = {
    "whole": Bounds(tasks=(4, 1), crashes=2, pauses=1, retries=1, failures=0, repairs=1),
    "failing": Bounds(tasks=(3, 0), crashes=1, pauses=0, retries=1, failures=1, repairs=1, fail_fast=True),
    "late": Bounds(tasks=(3, 0), crashes=1, pauses=0, retries=0, failures=0, repairs=0, cancels=1, late=1, misses=1),
    "operated": Bounds(
        tasks=(2, 0),
        crashes=0,
        pauses=1,
        retries=0,
        failures=0,
        repairs=0,
        resubmits=1,
        cancels=1,
        skips=1,
        returns=1,
        misses=1,
    ),
}
"""Explored by ``python -m benchmarks model``. "whole" alone has 4 tasks, 2 workers, 2 crashes, a pause, a retry and a repair,
in every order; the others look at what it leaves out."""

SMALL: Final = {
    "whole": Bounds(tasks=(2, 0), crashes=1, pauses=1, retries=0, failures=0, repairs=1),
    "failing": Bounds(tasks=(2, 0), crashes=1, pauses=0, retries=1, failures=1, repairs=1, fail_fast=True),
    "late": Bounds(tasks=(2, 0), crashes=1, pauses=0, retries=0, failures=0, repairs=0, cancels=1, late=1, misses=1),
    "operated": Bounds(
        tasks=(2, 0), crashes=0, pauses=1, retries=0, failures=0, repairs=0, cancels=1, skips=1, returns=1, misses=1
    ),
}
"""Explored by every run of the test suite."""

BROKEN: Final = {
    Variant.NO_LOCK: _NOTHING._replace(variant=Variant.NO_LOCK),
    Variant.NO_FENCE: _NOTHING._replace(variant=Variant.NO_FENCE),
    Variant.COUNT_BEFORE_COMMIT: _NOTHING._replace(variant=Variant.COUNT_BEFORE_COMMIT),
    Variant.SKIPPED_FORGOTTEN: _NOTHING._replace(variant=Variant.SKIPPED_FORGOTTEN, skips=1),
    Variant.REPEATABLE_READ: _NOTHING._replace(variant=Variant.REPEATABLE_READ),
    Variant.SECOND_DOOR: _NOTHING._replace(variant=Variant.SECOND_DOOR, skips=1),
    Variant.ROW_BY_ROW: _NOTHING._replace(variant=Variant.ROW_BY_ROW, chunk=1),
}
"""Each way to break the protocol, with the least that shows it."""

EVERYTHING: Final = Bounds(
    tasks=(4, 1),
    crashes=2,
    pauses=1,
    retries=1,
    failures=1,
    repairs=1,
    resubmits=1,
    cancels=1,
    skips=1,
    late=1,
    returns=1,
    misses=1,
)
"""What the walks in the real stores may do; far too much to be explored whole."""


def bounds_as_settings(bounds: Bounds) -> JsonObject:
    """Return bounds as a measurement names them."""
    given: JsonObject = {name: value for name, value in bounds._asdict().items() if name not in {"tasks", "variant", "workers"}}
    return given | {"stages": list(bounds.tasks), "holders": bounds.workers}
