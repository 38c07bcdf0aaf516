"""Planning and closing of a stage that need a blob store which does not answer: given back, and tried again later."""

from typing import Final

from stageflow.contracts.lease import Lease, RangeReturn
from stageflow.contracts.preview import redact
from stageflow.errors import PayloadsUnreachableError
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry

TRY_AGAIN_SECONDS: Final = 15.0


def give_back_unreachable(
    lease: Lease, repositories: Repositories, telemetry: Telemetry, error: PayloadsUnreachableError
) -> None:
    """Give a control lease back, to be claimed again after a while: as often as it takes, and nobody is blamed."""
    going_back = RangeReturn(
        range_id=lease.range_id,
        token=lease.token,
        first=0,
        retry_delay_seconds=TRY_AGAIN_SECONDS,
        error_details=redact(str(error)),
    )
    repositories.leases.return_ranges([going_back])
    telemetry.emit(
        "payloads_unreachable", lease.job_id, stage=lease.stage_number, kind=str(lease.kind), delay_seconds=TRY_AGAIN_SECONDS
    )
