"""What all parts of the store share: the database."""

from typing import Final

from stageflow.backends.postgres.pool import Database


class Part:
    """A part of the store; the parts together are :class:`~stageflow.backends.postgres.store.PostgresStore`."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database
