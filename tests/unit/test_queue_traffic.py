"""What decides how many messages are sent, and how many are held: bundles, the shelf and the pace."""

import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.queue import ReceivedMessage
from stageflow.engine.outbox import bundle
from stageflow.worker.pace import Pace
from stageflow.worker.shelf import Shelf
from stageflow.worker.sizes import ClaimSizes

JOB_ID = "a" * 64


def task_range(range_id: int, first: int, last: int, stage_number: int = 1) -> Announcement:
    """Return tasks of a stage that wait to be announced."""
    message = TaskQueueMessage(
        job_id=JOB_ID, job_type="demo", task_type="work", stage_number=stage_number, first=first, last=last
    )
    return Announcement(range_id=range_id, message=message)


def message(number: int) -> ReceivedMessage:
    """Return a delivery."""
    return ReceivedMessage(
        queue="tasks",
        message_id=str(number),
        body=b"",
        receipt="1",
        delivery_count=1,
        inserted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_neighbouring_ranges_of_short_tasks_travel_in_one_message() -> None:
    """As many as fit into the size; a hole, another stage and a job message begin another message."""
    job = Announcement(range_id=9, message=JobQueueMessage(job_id=JOB_ID, job_type="demo", stage_number=3))
    ranges = [
        task_range(3, 20, 30),
        task_range(1, 0, 10),
        task_range(2, 10, 20),
        task_range(4, 40, 50),
        task_range(5, 50, 60, 2),
    ]
    bundles = bundle([*ranges, job], lambda _: 20)
    named = [(each.message, [announcement.range_id for announcement in each.announced]) for each in bundles]
    assert named == [
        (job.message, [9]),
        (task_range(0, 0, 20).message, [1, 2]),
        (task_range(0, 20, 30).message, [3]),
        (task_range(0, 40, 50).message, [4]),
        (task_range(0, 50, 60, 2).message, [5]),
    ]


@pytest.mark.parametrize("second", [(0, 3), (0, 12), (12, 15)])
def test_ranges_of_two_stages_travel_apart_wherever_they_lie(second: tuple[int, int]) -> None:
    """Also where no range could reach from the one's beginning to the other's end."""
    ranges = [task_range(1, 5, 12), task_range(2, *second, 2)]
    assert [each.message for each in bundle(ranges, lambda _: 100)] == [each.message for each in ranges]


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(0, 30))
def test_bundles_name_every_task_once(widths: list[int], most: int) -> None:
    """Nothing is left out and nothing is named twice, whatever the size is; no message without need is over it."""
    ranges, first = [], 0
    for range_id, width in enumerate(widths):
        ranges.append(task_range(range_id, first, first + width))
        first += width
    bundles = bundle(reversed(ranges), lambda _: most)
    messages = [each.message for each in bundles if isinstance(each.message, TaskQueueMessage)]
    assert [index for each in messages for index in range(each.first, each.last)] == list(range(first))
    assert sorted(each.range_id for whole in bundles for each in whole.announced) == list(range(len(widths)))
    assert all(each.message.last - each.message.first <= most for each in bundles if len(each.announced) > 1)  # type: ignore[union-attr]


def test_the_size_of_a_bundle_goes_by_what_handlers_take() -> None:
    """Not by claiming and reporting; unknown types are not bundled."""
    sizes = ClaimSizes()
    assert sizes.bundle("work") == 0
    sizes.learn("work", 10, 1.0, 0.01)
    assert sizes.bundle("work") == 50
    sizes.learn("work", 10, 1.0, 0.0)
    assert sizes.bundle("work") == 1000
    sizes.learn("work", 1, 5.0, 5.0)
    assert sizes.bundle("work") == 1


def test_a_worker_asks_for_no_more_messages_than_it_has_free_slots() -> None:
    """As long as it does not know that they are short: what it holds unstarted, nobody else can begin."""
    shelf = Shelf(slots=3)
    assert shelf.reserve(32, 0.0) == 3
    assert shelf.reserve(32, 0.0) == 0
    shelf.put([message(1)], 3)
    assert shelf.reserve(32, 0.0) == 2
    assert shelf.take(0.0) == message(1)


def test_short_messages_are_received_ahead_until_one_takes_longer() -> None:
    """About 50 ms of work waits for a busy slot; where that turns out to be slow, it is given back."""
    now = 0.0
    shelf = Shelf(slots=1, clock=lambda: now)
    shelf.put([message(1), message(2)], 0)
    assert shelf.take(0.0) == message(1)
    now += 0.01
    shelf.done()
    assert shelf.take(0.0) == message(2)
    assert shelf.reserve(1000, 0.0) == 5
    shelf.put([message(number) for number in range(5)], 5)
    now += 0.4
    assert shelf.take_late(0.5) == []
    now += 0.2
    assert shelf.take_late(0.5) == [message(number) for number in range(5)]
    assert shelf.reserve(1000, 0.0) == 0


def test_a_closed_shelf_hands_out_nothing() -> None:
    """Messages that came too late wait there to be given back."""
    shelf = Shelf(slots=1)
    shelf.close()
    shelf.put([message(1)], 0)
    assert shelf.take(60.0) is None
    assert shelf.reserve(1, 60.0) == 0
    assert shelf.take_all() == [message(1)]


def test_an_empty_queue_is_asked_again_when_messages_arrive() -> None:
    """A pause ends at once when this worker sends, also when it sends while a request is on its way."""
    pace = Pace(3600.0)
    assert pace.wait(0.0)
    for _ in range(20):
        pace.found(0)
    assert not pace.wait(0.0)
    waiting = threading.Thread(target=pace.wait, args=(3600.0,))
    waiting.start()
    pace.arrived()
    waiting.join(30)
    assert not waiting.is_alive()
    pace.arrived()
    pace.found(0)
    assert pace.wait(0.0)


def test_announced_news_shorten_a_long_pause() -> None:
    """Where another process made work ready, its message is looked for in a moment, not after the pause."""
    pace = Pace(3600.0)
    for _ in range(20):
        pace.found(0)
    pace.expect()
    assert pace.wait(30.0)
