"""The history of jobs."""

from typing import Protocol

from stageflow.contracts.event import JobEvent


class EventStore(Protocol):
    """The history of jobs: what happened to them, written in the transaction of the change.

    A change that is refused or rolled back leaves no event. Nothing is written for a task that succeeds or is claimed: how
    many tasks a job has does not matter for the length of its history.
    """

    def list_events(self, job_id: str, *, after: int, limit: int) -> list[JobEvent]:
        """Return what happened to a job, in the order in which it was written, from after an event on.

        Events of one stage are in the order in which they happened. What was written while the history was being read may have
        an id before one that was read.
        """
        ...
