"""When a cron expression fires, in its time zone. The parser is loaded when the first schedule is.

Daylight saving time is taken as Debian's cron does. An expression whose minute and hour name times (``30 2 * * *``) means the
clock on the wall: what falls into the gap of spring fires right after it, what is there twice in autumn fires the first time.
One whose minute or hour begins with ``*`` means elapsed time: it fires in both hours of autumn, and not in the gap.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stageflow.contracts.preview import preview
from stageflow.errors import InvalidValueError

if TYPE_CHECKING:
    from cronsim import CronSim

_FIELDS: Final = 5
_MARGIN: Final = timedelta(days=1)
"""More than any change of a time zone moves the clock."""


class Cron:
    """A cron expression of five fields, meant in a time zone.

    Raises:
        InvalidValueError: It is none, the time zone is unknown, or it never fires; the message says which.
    """

    def __init__(self, expression: str, time_zone: str) -> None:
        self.expression: Final = expression
        try:
            self._zone: Final = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            msg = f"there is no time zone {preview(time_zone)}; name one of the IANA database, such as Europe/Vienna or UTC"
            raise InvalidValueError(msg) from error
        if len(expression.split()) != _FIELDS:
            msg = f"{preview(expression)} is no cron expression; write five fields: minute, hour, day, month, day of week"
            raise InvalidValueError(msg)
        from cronsim import CronSimError  # noqa: PLC0415  loaded on first need

        try:
            self.next_after(datetime.now(UTC))
        except CronSimError as error:
            msg = f"{preview(expression)} is no cron expression: {error}; write five fields, such as 0 3 * * *"
            raise InvalidValueError(msg) from error

    def next_after(self, moment: datetime) -> datetime:
        """Return the first fire time after a moment, in UTC.

        Raises:
            InvalidValueError: There is none within fifty years.
        """
        # In the repeated hour of autumn the parser can answer with what fired the first time.
        for fire_time in self._walk(moment):
            if fire_time > moment:
                return fire_time
        msg = f"the cron expression {preview(self.expression)} never fires; name a day that exists"
        raise InvalidValueError(msg)

    def missed(self, first: datetime, now: datetime, most: int) -> list[datetime]:
        """Return the newest fire times from ``first``, which is one, up to now; in order, at most ``most``."""
        if self.next_after(first) > now:
            return [first]
        newest = islice(self._walk(now, reverse=True), most)
        oldest = deque(newest, maxlen=1)
        begin = max(first, oldest[0] - _MARGIN) if oldest else first
        found = deque([first] if begin == first else [], maxlen=most)
        for fire_time in self._walk(begin):
            if fire_time > now:
                break
            if fire_time > begin:
                found.append(fire_time)
        return list(found)

    def _walk(self, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        for fire_time in self._parsed(moment, reverse=reverse):
            yield fire_time.astimezone(UTC)

    def _parsed(self, moment: datetime, *, reverse: bool) -> "CronSim":
        from cronsim import CronSim  # noqa: PLC0415  loaded on first need

        return CronSim(self.expression, moment.astimezone(self._zone), reverse=reverse)
