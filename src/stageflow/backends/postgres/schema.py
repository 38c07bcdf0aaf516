"""The schema: brought up to date, compared, and checked at start."""

from collections.abc import Callable
from typing import TypeVar

import psycopg

from stageflow.backends.postgres.migrations import UNRECORDED, Applied, apply, read_applied
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.session import Connection, settled
from stageflow.backends.postgres.verify import UNCOMPARED, find_drifts, may_compare, recorded_drifts
from stageflow.contracts.schema import SCHEMA_VERSION, SchemaReport, SchemaState
from stageflow.errors import SchemaVersionError

T = TypeVar("T")


class Schema(Part):
    """Satisfies ``stageflow.ports.SchemaStore``."""

    def migrate(self) -> SchemaReport:
        """Apply the migrations that are missing, each once, in order; safe to call from many processes."""
        applied = self._on_own_connection(apply)
        return SchemaReport(state=applied.state, version=applied.version, drifts=[])

    def verify(self) -> SchemaReport:
        """Compare the schema with what the migrations make; changes nothing."""

        def look(connection: Connection) -> SchemaReport:
            applied = read_applied(connection)
            compares = may_compare(connection)
            drifts = find_drifts(connection, applied) if compares else recorded_drifts(applied)
            unchecked = "" if compares else UNCOMPARED
            return SchemaReport(state=applied.state, version=applied.version, drifts=drifts, unchecked=unchecked)

        return self._on_own_connection(look)

    def check_schema(self) -> None:
        """Do nothing if this code can work with the schema.

        Raises:
            SchemaVersionError: It cannot; the message says what to do.
        """
        applied = self._on_own_connection(read_applied)
        if (problem := self._problem(applied)) is not None:
            raise SchemaVersionError(problem)

    def _problem(self, applied: Applied) -> str | None:
        url = self._database.url
        match applied.state:
            case SchemaState.MISSING if applied.unrecorded:
                return f"at {url}: {UNRECORDED}"
            case SchemaState.MISSING:
                return f"there is no stageflow schema at {url}; run `stageflow migrate --store {url}`"
            case SchemaState.OLDER:
                versions = f"version {applied.version}, this code needs {SCHEMA_VERSION}"
                return f"the schema at {url} has {versions}; run `stageflow migrate --store {url}`"
            case SchemaState.NEWER:
                return f"the schema at {url} has version {applied.version}, this code knows {SCHEMA_VERSION}; upgrade stageflow"
            case SchemaState.CURRENT if applied.stale_functions:
                names = ", ".join(applied.stale_functions)
                return f"functions at {url} are not those of this code ({names}); run `stageflow migrate --store {url}`"
            case SchemaState.CURRENT:
                return None

    def _on_own_connection(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._database.connector.open() as connection, settled(connection):
                return work(connection)
        except psycopg.Error as error:
            raise self._database.connector.translated(error) from error
