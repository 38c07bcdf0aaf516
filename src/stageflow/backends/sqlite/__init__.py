"""The embedded default store: one SQLite file shared by processes, or memory shared by the threads of one process."""

from stageflow.backends.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
