"""Histories of jobs."""

from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.event import BEFORE_ALL, MOST_EVENTS, JobEvent
from stageflow.contracts.ids import validate_job_id
from stageflow.errors import InvalidValueError, JobNotFoundError
from stageflow.ports import Store

_HIGHEST_ID = 2**63 - 1


class EventRepository:
    """What happened to jobs; stores write it with the changes themselves."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @enforce_contract
    def list_events(self, job_id: str, after: int | None, limit: int) -> list[JobEvent]:
        """Return what happened to a job, oldest first, from after an event on.

        Raises:
            InvalidValueError: The limit is not 1 to 1,000, or no event can have the id.
            JobNotFoundError: There is no such job.
        """
        if not 1 <= limit <= MOST_EVENTS:
            msg = f"limit must be 1 to {MOST_EVENTS}, got {limit}; ask for the next page with after="
            raise InvalidValueError(msg)
        if after is not None and not BEFORE_ALL < after <= _HIGHEST_ID:
            msg = f"after must be the event_id of an event, got {after}; take that of the last one of the page before"
            raise InvalidValueError(msg)
        events = self._store.list_events(validate_job_id(job_id), after=BEFORE_ALL if after is None else after, limit=limit)
        if not events and not self._store.get_job_states([job_id]):
            msg = f"there is no job {job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        return events
