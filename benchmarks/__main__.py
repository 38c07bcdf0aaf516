"""``python -m benchmarks NAME [options]``: one JSON line a measurement on standard output, progress on standard error."""

import argparse
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import cast, get_type_hints

from pydantic import ValidationError

from benchmarks.catalog import BENCHMARKS
from benchmarks.measurement import Measurement, say
from benchmarks.request import Request
from benchmarks.server import NO_STORE, given_or_throwaway
from stageflow import StageflowError

Measure = Callable[[Request], Iterable[Measurement]]


def load(name: str) -> tuple[Measure, type[Request]]:
    """Return a benchmark and the request that it takes, by the annotation of its parameter."""
    try:
        measure = cast("Measure", import_module(BENCHMARKS[name]).measure)
    except ModuleNotFoundError as error:
        msg = f"{error}; what the benchmarks need beside the library comes with pip install -e '.[bench]'"
        raise SystemExit(msg) from error
    return measure, get_type_hints(measure)["request"]


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark that the command line names."""
    names = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, add_help=False)
    names.add_argument("name", choices=list(BENCHMARKS))
    name, rest = names.parse_known_args(arguments)
    measure, kind = load(name.name)
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name.name}", description=measure.__doc__)
    kind.add_options(parser)
    given = vars(parser.parse_args(rest))
    wanted = given["store"] or (None if kind.uses_store else NO_STORE)
    try:
        kind.from_options(given, NO_STORE)  # refused before a server is started for it
        with given_or_throwaway(wanted, kind.server_settings) as store:
            for measurement in measure(kind.from_options(given, store)):
                print(measurement.json_line(), flush=True)
                say(f"{measurement.name}: median {measurement.median:,.2f} {measurement.unit}")
    except (ValidationError, StageflowError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
