"""Attacks every decoder, and says what it found."""

import random
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from pydantic import Field

from benchmarks.fuzz.decoder import Decoder
from benchmarks.fuzz.judges import RefusedError
from benchmarks.fuzz.rows import row_decoders
from benchmarks.fuzz.texts import text_decoders
from benchmarks.measurement import Measurement, say
from benchmarks.request import Request
from stageflow.contracts.base import JsonObject
from stageflow.errors import StageflowError

SLOWEST_SECONDS: Final = 1.0
_SHOWN: Final = 5


class FuzzRequest(Request):
    """How many inputs, and which."""

    uses_store: ClassVar[bool] = False

    inputs: int = Field(default=100_000, ge=1, description="inputs, shared out evenly among the decoders")
    seed: int = Field(default=1, description="of the inputs: the same seed gives the same ones")


def _equal(expected: Any, found: Any) -> bool:
    """Compare without taking ``True`` for 1 or 1.0 for 1."""
    match expected, found:
        case dict(), dict():
            return expected.keys() == found.keys() and all(_equal(expected[key], found[key]) for key in expected)
        case (list(), list()) | (tuple(), tuple()):
            return len(expected) == len(found) and all(map(_equal, expected, found))
        case _:
            kinds = [(isinstance(value, bool), isinstance(value, float)) for value in (expected, found)]
            return bool(expected == found) and kinds[0] == kinds[1]


class Tally:
    """What became of the inputs of one decoder."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.inputs = self.accepted = self.refused = self.crashed = self.wrongly_accepted = 0
        self.slowest_seconds = 0.0
        self.examples: list[str] = []

    def attack(self, given: Any) -> None:
        """Decode one input and judge what came of it."""
        self.inputs += 1
        start = time.process_time()
        try:
            value = self.decoder.decode(given)
        except StageflowError:
            self.refused += 1
            return
        except Exception as error:  # noqa: BLE001  that is what is looked for
            self.crashed += 1
            self._note("crashed", given, f"{type(error).__name__}: {error}")
            return
        finally:
            self.slowest_seconds = max(self.slowest_seconds, time.process_time() - start)
        self.accepted += 1
        try:
            expected, found = self.decoder.judge(given), self.decoder.shown(value)
        except RefusedError as error:
            self._wrong(given, str(error))
        else:
            if not _equal(expected, found):
                self._wrong(given, f"{found!r:.200} in place of {expected!r:.200}")

    def _wrong(self, given: Any, why: str) -> None:
        self.wrongly_accepted += 1
        self._note("accepted", given, why)

    def _note(self, what: str, given: Any, why: str) -> None:
        if len(self.examples) < _SHOWN:
            self.examples.append(f"{what}: {why[:300]!r} from {given!r:.600}")

    @property
    def failed(self) -> bool:
        """Whether the decoder did what it never may, or accepted nothing at all."""
        return bool(self.crashed or self.wrongly_accepted or self.slowest_seconds > SLOWEST_SECONDS or not self.accepted)

    def figures(self) -> JsonObject:
        """Return the counts."""
        return {
            "inputs": self.inputs,
            "accepted": self.accepted,
            "refused": self.refused,
            "crashed": self.crashed,
            "accepted_that_should_not": self.wrongly_accepted,
            "slowest_seconds": round(self.slowest_seconds, 4),
        }


def decoders() -> list[Decoder]:
    """Return every decoder under attack."""
    return [*text_decoders(), *row_decoders()]


def campaign(inputs: int, seed: int) -> list[Tally]:
    """Attack every decoder with its share of the inputs."""
    tallies = [Tally(decoder) for decoder in decoders()]
    share = -(-inputs // len(tallies))
    for tally in tallies:
        rng = random.Random(f"{seed}/{tally.decoder.name}")  # noqa: S311  inputs that can be made again, no secret
        for _ in range(share):
            tally.attack(tally.decoder.make(rng))
        say(f"{tally.decoder.name}: {tally.figures()}")
        for example in tally.examples:
            say(f"    {example}")
    return tallies


def measure(request: FuzzRequest) -> Iterator[Measurement]:
    """Hostile inputs for every decoder; fails if one crashes, takes over a second, or accepts what it should not."""
    tallies = campaign(request.inputs, request.seed)
    yield Measurement.of(
        "fuzz",
        "inputs",
        [float(sum(tally.inputs for tally in tallies))],
        settings={"inputs": request.inputs, "seed": request.seed},
        details={tally.decoder.name: tally.figures() for tally in tallies},
    )
    failed = [tally.decoder.name for tally in tallies if tally.failed]
    if failed:
        msg = f"fuzz: these decoders failed: {', '.join(failed)}; standard error shows the inputs"
        raise SystemExit(msg)
