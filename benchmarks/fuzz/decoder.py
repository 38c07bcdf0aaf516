"""A decoder under attack."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """One place where bytes, text or a row become a value.

    Attributes:
        make: Makes an input.
        decode: Returns the value, or refuses with an error of stageflow's tree.
        judge: Returns what the value must be equal to, or raises :class:`~benchmarks.fuzz.judges.RefusedError`.
        shown: Makes of the value what is compared with the judge's.
    """

    name: str
    make: Callable[[random.Random], Any]
    decode: Callable[[Any], Any]
    judge: Callable[[Any], Any]
    shown: Callable[[Any], Any]
