"""A pytest plugin: ``pytest_plugins = ["stageflow.testing.plugin"]`` in a conftest gives tests the fixture ``stageflow_app``.

It is not loaded by itself, so that pytest runs that do not need it neither import nor measure anything.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stageflow.app import Stageflow
from stageflow.worker.options import WorkerOptions
from stageflow.workflow.registry import JobRegistry


class AppFactory:
    """Makes apps that live in memory, each with a store of its own, until the test ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, registry: JobRegistry | None = None, *, options: WorkerOptions | None = None) -> Stageflow:
        """Return a new app.

        Args:
            registry: The workflows; the default registry when left out.
            options: How its workers work.
        """
        return self._stack.enter_context(Stageflow("sqlite::memory:", registry=registry, options=options))


@pytest.fixture
def stageflow_app() -> Iterator[AppFactory]:
    """Give what makes apps in memory, each closed at the end of the test; call it to get one."""
    with ExitStack() as stack:
        yield AppFactory(stack)
