"""The composition root: connects stores, queues, workflows and workers."""

from stageflow.app.factory import RepositoryFactory, RepositoryRegistry
from stageflow.app.stageflow import Stageflow

__all__ = ["RepositoryFactory", "RepositoryRegistry", "Stageflow"]
