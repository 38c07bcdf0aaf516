"""Answers that change nothing, for those who ask why work is late."""

from collections.abc import Sequence
from itertools import groupby

from psycopg.rows import TupleRow

from stageflow.backends.postgres.arrays import dense_array
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import read_row
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.open_work import OpenGroup, OpenRange, OpenState
from stageflow.contracts.status import status_from_text


class Insights(Part):
    """Satisfies ``stageflow.ports.InsightStore``."""

    def list_open_work(self, stage_ids: Sequence[int], *, heads: int) -> list[OpenGroup]:
        """Return the ranges of stages that have not ended, in groups by stage, kind and state, as seen at one moment."""
        rows = self._database.read(query("list_open_work"), (dense_array(stage_ids), heads))
        return [
            OpenGroup(
                stage_id=stage_id,
                kind=WorkKind(kind),
                state=OpenState(state),
                range_count=rows_of_group[0][-2],
                task_count=rows_of_group[0][-1],
                heads=[open_range_from_row(row) for row in rows_of_group],
            )
            for (stage_id, kind, state), rows_of_group in (
                (key, list(group)) for key, group in groupby(rows, key=lambda row: (row[1], row[2], row[4]))
            )
        ]


def open_range_from_row(row: TupleRow) -> OpenRange:
    """Read the 18 columns of an open range, and pass over what follows them."""
    return read_row("range", row[0], lambda: _open_range(row))


def _open_range(row: TupleRow) -> OpenRange:
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
        not_before=row[9],
        worker_id=row[10],
        lease_expires_at=row[11],
        renewed_at=row[12],
        current_index=row[13],
        current_since=row[14],
        error_details=row[15],
        announced_at=row[16],
        created_at=row[17],
    )
