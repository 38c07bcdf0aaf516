"""PostgreSQL: the production store, and the queue that needs no other server."""

from stageflow.backends.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
