"""Answers that change nothing, for those who ask why work is late."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from stageflow.backends.sqlite.clock import stored_time
from stageflow.backends.sqlite.connection import Row
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import json_list
from stageflow.contracts.damage import ROW_FAULTS, malformed
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenGroup, OpenRange, OpenState
from stageflow.contracts.status import status_from_text

_OPEN_WORK: Final = (
    "select range_id, stage_id, kind, work_type, state, first, last, attempt, deaths, not_before, worker_id, lease_expires_at,"
    " renewed_at, current_index, current_since, error_details, announced_at, created_at, range_count, task_count"
    " from (select r.*, count(*) over (partition by stage_id, kind, state) as range_count,"
    " sum(last - first) over (partition by stage_id, kind, state) as task_count,"
    " row_number() over (partition by stage_id, kind, state order by not_before, lease_expires_at, first, range_id) as place"
    " from stageflow_ranges r where stage_id in (select value from json_each(?))"
    " and state in ('ready', 'leased', 'waiting', 'held')) where place <= ? order by stage_id, kind, state, place"
)


class SqliteInsights(StorePart):
    """Satisfies ``stageflow.ports.InsightStore``."""

    def list_open_work(self, stage_ids: Sequence[int], *, heads: int) -> list[OpenGroup]:
        """Return the ranges of stages that have not ended, in groups by stage, kind and state, as seen at one moment."""
        with self._database.reading() as tx:
            rows = tx.rows(_OPEN_WORK, (json_list(list(stage_ids)), heads))
        return [
            OpenGroup(
                stage_id=stage_id,
                kind=WorkKind(kind),
                state=OpenState(state),
                range_count=rows_of_group[0][-2],
                task_count=rows_of_group[0][-1],
                heads=[to_open_range(row) for row in rows_of_group],
            )
            for (stage_id, kind, state), rows_of_group in (
                (key, list(group)) for key, group in groupby(rows, key=lambda row: (row[1], row[2], row[4]))
            )
        ]


def to_open_range(row: Row) -> OpenRange:
    """Return the 18 columns of an open range as the contract, and pass over what follows them."""
    try:
        return OpenRange(
            range_id=row[0],
            stage_id=row[1],
            kind=status_from_text(WorkKind, row[2]),
            work_type=row[3],
            state=status_from_text(OpenState, row[4]),
            first=row[5],
            last=row[6],
            attempt=row[7],
            deaths=row[8],
            not_before=stored_time(row[9]),
            worker_id=row[10],
            lease_expires_at=stored_time(row[11]),
            renewed_at=stored_time(row[12]),
            current_index=row[13],
            current_since=stored_time(row[14]),
            error_details=row[15],
            announced_at=stored_time(row[16]),
            created_at=stored_time(row[17]),
        )
    except ROW_FAULTS as error:
        what = f"range {row[0]}"
        raise malformed(what, error) from error
