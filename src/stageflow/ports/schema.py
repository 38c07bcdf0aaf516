"""The schema of a store."""

from typing import Protocol

from stageflow.contracts.schema import SchemaReport


class SchemaStore(Protocol):
    """The schema."""

    def migrate(self) -> SchemaReport:
        """Apply the migrations that are missing, each once, in order; safe to call from many processes."""
        ...

    def verify(self) -> SchemaReport:
        """Compare the schema with what the migrations make; changes nothing."""
        ...

    def check_schema(self) -> None:
        """Do nothing if this code can work with the schema.

        Raises:
            SchemaVersionError: It cannot; the message says what to do.
        """
        ...
