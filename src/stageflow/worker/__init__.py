"""The clockwork: threads, loops and signals around the engine's verbs. It decides nothing about jobs."""

from stageflow.worker.dispatch import Dispatcher
from stageflow.worker.options import WorkerOptions
from stageflow.worker.worker import Worker

__all__ = ["Dispatcher", "Worker", "WorkerOptions"]
