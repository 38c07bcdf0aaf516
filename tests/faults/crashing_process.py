"""A worker in a process of its own that is killed at a named point: run as a script with a store's URL and the point.

The points are events that the library tells of anyway, so that production code knows nothing of them; or a planner, which is
the test's own code, dies by itself.
"""

import importlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from stageflow.telemetry import Event

POINTS: dict[str, Callable[[Event], bool]] = {
    "amid_the_planning": lambda event: event.name == "stage_planned",  # too late: the planner has died before
    "after_the_claim": lambda event: event.name == "stage_planned" and event.details["stage"] == 1,
    "after_the_last_completion": lambda event: event.name == "range_completed" and event.details["remaining"] == 0,
    "after_the_advance": lambda event: event.name == "stage_advanced",
}


def main(store: str, point: str) -> None:
    """Work until the point is reached; a minute is long enough."""
    sys.path.insert(0, str(Path(__file__).parent))
    worker_process = importlib.import_module("worker_process")
    reached = POINTS[point]

    def die_there(event: Event) -> None:
        if reached(event):
            signal.raise_signal(signal.SIGKILL)

    with worker_process.make_app(store) as app:
        # One slot: beside the one that dies, another would run what the test says nobody has run.
        alone = app.options.model_copy(update={"slots": 1})
        with app.telemetry.listening(die_there), app.worker(alone):
            signal.sigtimedwait([signal.SIGTERM], 60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
