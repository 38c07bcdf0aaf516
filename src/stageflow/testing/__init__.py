"""The test kit: what users and our own tests use to try a workflow, a store or a queue.

:func:`run_workflow` runs a workflow in memory to its end; :func:`task_context`, :func:`job_context` and
:func:`stage_results` are what handlers and planners are called with in unit tests; :mod:`stageflow.testing.plugin` is a
pytest plugin with a fixture; :mod:`stageflow.testing.conformance` proves stores, queues and blob stores of your own. None of
this is loaded by ``import stageflow``.
"""

from stageflow.testing.context import job_context, stage_results, task_context
from stageflow.testing.drain import drain_work, move_clock
from stageflow.testing.run import StageRun, WorkflowRun, run_workflow

__all__ = [
    "StageRun",
    "WorkflowRun",
    "drain_work",
    "job_context",
    "move_clock",
    "run_workflow",
    "stage_results",
    "task_context",
]
