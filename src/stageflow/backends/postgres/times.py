"""Times that PostgreSQL can hold and Python cannot: beyond the year 9999, before the year 1, and infinity."""

import struct
from datetime import datetime
from typing import Final

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader, Transformer
from psycopg.pq import Format

TIMESTAMPTZ_OID: Final = 1184


class StoredTimeLoader(Loader):
    """Loads a time; one that no datetime holds as its number, so that the contract of its row refuses it and names the row.

    psycopg's own would fail the whole answer, the rows that are well too.
    """

    format = Format.BINARY

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        # psycopg's own, in C where it is installed so; without a connection its times are in UTC.
        self._loader: Final = Transformer(None).get_loader(oid, Format.BINARY)

    def load(self, data: Buffer) -> datetime | int:
        """Return a time, or the microseconds from the year 2000 to it."""
        try:
            time: datetime = self._loader.load(data)
        except psycopg.DataError:
            (micros,) = struct.unpack("!q", data)
            return int(micros)
        return time
