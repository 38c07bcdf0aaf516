"""The repair example, on both stores."""

from collections.abc import Callable

import pytest

_PRINTED = [
    "200 tiles, 0.00 to 106.00 m; handlers called: 200 measure, 1 report",
    "wrong: [3, 17, 120]; a repair would run 3 tasks and keep 197, then run stage [2] again",
    "200 tiles, 100.00 to 106.00 m; handlers called: 3 measure, 1 report",
    "  run 1, stage 1 (measure): completed, generation 1, 200 of 200 tasks completed",
    "  run 1, stage 2 (report): completed, generation 1, 1 of 1 tasks completed",
    "  tiles 16 to 18: 102.00, 1.98, 104.00",
    "  run 2, stage 1 (measure): completed, generation 2, 200 of 200 tasks completed",
    "  run 2, stage 2 (report): completed, generation 1, 1 of 1 tasks completed",
    "  tiles 16 to 18: 102.00, 103.00, 104.00",
]


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_three_wrong_tiles_are_repaired(
    run_example: Callable[..., list[str]], request: pytest.FixtureRequest, store: str
) -> None:
    """Exactly three tiles and the report are computed again, and both histories can be read."""
    url = "sqlite::memory:" if store == "sqlite" else request.getfixturevalue("migrated_dsn")
    assert run_example("repair.py", STAGEFLOW_STORE=url) == _PRINTED
