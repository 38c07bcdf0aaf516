"""How the server carries out a worker's claim, nested statements included."""

import re
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from benchmarks.flows import registry
from stageflow import RepositoryFactory
from stageflow.contracts.base import JsonObject
from stageflow.contracts.lease import ClaimRequest, RangeReturn

_SETTINGS: Final = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "client_min_messages": "log",
}
_LEASE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class ClaimPlan:
    """What a claim did.

    Attributes:
        leases: Leases that it got; they were given back.
        indexes: Indexes that it scanned.
        seq_scans: Tables that it read from end to end.
        buffers: Pages that it looked at, dead entries included.
    """

    leases: int
    indexes: list[str]
    seq_scans: list[str]
    buffers: int

    def as_json(self) -> JsonObject:
        """Return it for a measurement's details."""
        return {"leases": self.leases, "indexes": [*self.indexes], "seq_scans": [*self.seq_scans], "buffers": self.buffers}


def explain_claims(store: str, count: int) -> list[ClaimPlan]:
    """Claim so often as a worker does, give back what was got, and return how each claim was carried out.

    The server must allow this session to load ``auto_explain``.
    """
    plans: list[str] = []
    seen: list[ClaimPlan] = []
    sequences = _sequences(store)
    repositories = RepositoryFactory.create_repositories("", connection_factory=lambda: _connect(store, plans), pool_size=1)
    work_types = [kind for workflow in registry.workflows() for kind in workflow.work_types()]
    request = ClaimRequest(
        worker_id="explain",
        work_types=work_types,
        max_tasks=[1] * len(work_types),
        max_leases=1,
        lease_seconds=_LEASE_SECONDS,
    )
    for _ in range(count):
        plans.clear()
        leases = repositories.leases.claim_work(request).leases
        seen.append(_read(plans, len(leases), sequences))
        returns = [RangeReturn(range_id=lease.range_id, token=lease.token, first=lease.first) for lease in leases]
        repositories.leases.return_ranges(returns)
    repositories.store.close()
    return seen


def _connect(store: str, plans: list[str]) -> psycopg.Connection[Any]:
    connection = psycopg.connect(store, autocommit=True)
    connection.execute("load 'auto_explain'")
    for name, value in _SETTINGS.items():
        connection.execute("select set_config(%s, %s, false)", (name, value))
    connection.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    return connection


def _sequences(store: str) -> set[str]:
    with psycopg.connect(store) as connection:
        return {name for (name,) in connection.execute("select relname from pg_class where relkind = 'S'")}


def _read(plans: list[str], leases: int, sequences: set[str]) -> ClaimPlan:
    text = "\n".join(plans)
    return ClaimPlan(
        leases=leases,
        indexes=sorted(set(re.findall(r"(?:Index (?:Only )?Scan .*?using|Bitmap Index Scan on) (\w+)", text))),
        # A sequence is one row, which is read by a sequential scan.
        seq_scans=[name for name in re.findall(r"Seq Scan on (\w+)", text) if name not in sequences],
        # The claim's own statement ends last, and its pages are those of all that is nested in it.
        buffers=_buffers(plans[-1]) if plans else 0,
    )


def _buffers(plan: str) -> int:
    found = re.search(r"Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?", plan)
    return sum(int(pages or 0) for pages in found.groups()) if found else 0
