"""Cron expressions in time zones: what fires when the clock on the wall jumps, and what was missed."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from stageflow import InvalidValueError
from stageflow.engine.cron import Cron

VIENNA = "Europe/Vienna"


def moment(text: str) -> datetime:
    """Return a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def following(cron: Cron, begin: str, count: int) -> list[str]:
    """Return the next fire times after a moment, as texts in UTC."""
    times = [moment(begin)]
    for _ in range(count):
        times.append(cron.next_after(times[-1]))
    return [f"{each:%m-%d %H:%M}" for each in times[1:]]


def test_a_time_on_the_wall_follows_the_zone() -> None:
    """Three in the morning in Vienna is two o'clock UTC in winter and one o'clock in summer."""
    cron = Cron("0 3 * * *", VIENNA)
    assert following(cron, "2026-03-27 12:00", 3) == ["03-28 02:00", "03-29 01:00", "03-30 01:00"]
    assert following(cron, "2026-10-23 12:00", 3) == ["10-24 01:00", "10-25 02:00", "10-26 02:00"]


def test_a_time_in_the_gap_of_spring_fires_right_after_it() -> None:
    """Half past two does not exist on that day: the job runs at three, and the day after at its time again."""
    assert following(Cron("30 2 * * *", VIENNA), "2026-03-28 12:00", 2) == ["03-29 01:00", "03-30 00:30"]


def test_a_time_that_is_there_twice_in_autumn_fires_once() -> None:
    """The first half past two fires; the second is passed over, also for one who asks in between."""
    cron = Cron("30 2 * * *", VIENNA)
    assert following(cron, "2026-10-24 12:00", 2) == ["10-25 00:30", "10-26 01:30"]
    assert following(cron, "2026-10-25 00:45", 1) == ["10-26 01:30"]
    assert following(cron, "2026-10-25 01:15", 1) == ["10-26 01:30"]


def test_an_interval_is_elapsed_time() -> None:
    """Every half hour fires through both hours of autumn, and jumps over the gap of spring."""
    cron = Cron("*/30 * * * *", VIENNA)
    for begin in ("2026-10-24 22:00", "2026-03-28 22:00"):
        times = [moment(begin)]
        for _ in range(12):
            times.append(cron.next_after(times[-1]))
        assert {after - before for before, after in pairwise(times)} == {timedelta(minutes=30)}


def test_what_was_missed_is_listed_in_order_up_to_now() -> None:
    """From the fire time that is due to the last that has passed, both included."""
    cron = Cron("0 * * * *", "UTC")
    missed = cron.missed(moment("2026-01-01 05:00"), moment("2026-01-01 08:00"), 1000)
    assert missed == [moment(f"2026-01-01 0{hour}:00") for hour in (5, 6, 7, 8)]
    assert cron.missed(moment("2026-01-01 05:00"), moment("2026-01-01 05:59"), 1000) == [moment("2026-01-01 05:00")]


def test_of_too_many_that_were_missed_the_newest_are_listed() -> None:
    """A schedule that slept for years is bounded, and costs no walk through those years."""
    cron = Cron("* * * * *", VIENNA)
    now = moment("2026-10-25 02:30")
    missed = cron.missed(moment("2001-01-01 00:00"), now, 1000)
    assert len(missed) == 1000
    assert missed[-1] == now
    assert {after - before for before, after in pairwise(missed)} == {timedelta(minutes=1)}


def test_the_fire_time_of_autumn_is_not_lost_by_looking_back() -> None:
    """In the repeated hour the parser, walking back, would pass over what fired an hour before."""
    cron = Cron("30 2 * * *", VIENNA)
    missed = cron.missed(moment("2026-10-20 00:30"), moment("2026-10-25 01:10"), 3)
    assert [f"{each:%m-%d %H:%M}" for each in missed] == ["10-23 00:30", "10-24 00:30", "10-25 00:30"]


@pytest.mark.parametrize(
    ("expression", "time_zone", "message"),
    [
        ("61 * * * *", "UTC", "is no cron expression: Bad minute"),
        ("0 3 * *", "UTC", "write five fields"),
        ("0 0 3 * * *", "UTC", "write five fields"),
        ("@daily", "UTC", "write five fields"),
        ("0 0 30 2 *", "UTC", "is no cron expression"),
        ("0 3 * * *", "Mars/Olympus", "there is no time zone"),
        ("0 3 * * *", "../etc/passwd", "there is no time zone"),
        ("0 3 * * *", "", "there is no time zone"),
    ],
)
def test_what_cannot_be_is_refused(expression: str, time_zone: str, message: str) -> None:
    """The message names what is wrong and how it is written."""
    with pytest.raises(InvalidValueError, match=message):
        Cron(expression, time_zone)


def test_what_never_fires_is_refused() -> None:
    """A day that no month has is found out when the schedule is made."""
    with pytest.raises(InvalidValueError):
        Cron("0 0 31 2,4,6 *", "UTC")
