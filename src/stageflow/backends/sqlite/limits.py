"""Limits and pauses of task types: set, taken back, listed."""

from collections.abc import Sequence
from typing import Final

from stageflow.backends.sqlite.allowances import granted_starts
from stageflow.backends.sqlite.clock import from_micros, span_micros, stored_time
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.part import StorePart
from stageflow.contracts.damage import nearest_time
from stageflow.contracts.limits import TaskTypeLimit, TaskTypeState, scope_of, type_scope

_DECLARE: Final = (
    "insert into stageflow_limits (scope, declared_max_running, declared_max_per_second, max_running, max_per_second)"
    " values (?1, ?2, ?3, ?2, ?3) on conflict (scope) do update set"
    " declared_max_running = ?2, declared_max_per_second = ?3,"
    " max_running = case when overridden then max_running else ?2 end,"
    " max_per_second = case when overridden then max_per_second else ?3 end"
)
_OPEN: Final = (
    "select work_type, sum(state = 'leased'), sum(case when state = 'ready' then last - first else 0 end)"
    " from stageflow_ranges where kind = 'task' and state in ('ready', 'leased') group by work_type"
)


class SqliteLimits(StorePart):
    """Satisfies ``stageflow.ports.LimitStore``."""

    def declare_limits(self, limits: Sequence[TaskTypeLimit]) -> None:
        """Keep what code declares for its task types; it holds where no operator has said otherwise."""
        with self._database.transaction() as tx:
            for limit in limits:
                before = tx.row(
                    "select declared_max_running, declared_max_per_second from stageflow_limits where scope = ?", (limit.scope,)
                )
                if (limit.max_running, limit.max_per_second) != (before or (None, None)):
                    tx.run(_DECLARE, (limit.scope, limit.max_running, limit.max_per_second))
                    _tell(tx, limit.scope)

    def limit_task_type(self, limit: TaskTypeLimit) -> None:
        """Let these limits hold, whatever is declared."""
        with self._database.transaction() as tx:
            _ensure(tx, limit.scope)
            tx.run(
                "update stageflow_limits set overridden = 1, max_running = ?, max_per_second = ? where scope = ?",
                (limit.max_running, limit.max_per_second, limit.scope),
            )
            _tell(tx, limit.scope)

    def reset_task_type(self, job_type: str, task_type: str) -> None:
        """Let what is declared hold again."""
        with self._database.transaction() as tx:
            scope = type_scope(job_type, task_type)
            tx.run(
                "update stageflow_limits set overridden = 0, max_running = declared_max_running,"
                " max_per_second = declared_max_per_second where scope = ?",
                (scope,),
            )
            _tell(tx, scope)

    def pause_task_type(self, job_type: str, task_type: str) -> None:
        """Give out no lease of the type from now on; what runs may end."""
        with self._database.transaction() as tx:
            scope = type_scope(job_type, task_type)
            _ensure(tx, scope)
            tx.run("update stageflow_limits set paused_at = coalesce(paused_at, ?) where scope = ?", (tx.now, scope))

    def resume_task_type(self, job_type: str, task_type: str) -> None:
        """Give out leases of the type again, and have its ready work announced again."""
        with self._database.transaction() as tx:
            scope = type_scope(job_type, task_type)
            tx.run("update stageflow_limits set paused_at = null where scope = ?", (scope,))
            _tell(tx, scope)

    def list_task_types(self) -> list[TaskTypeState]:
        """Return the task types that have or had a limit or a pause, and those with open work, by name."""
        with self._database.reading() as tx:
            states = {
                row[0]: _state(row, tx.now)
                for row in tx.rows(
                    "select scope, max_running, max_per_second, declared_max_running, declared_max_per_second, overridden,"
                    " paused_at, spent_at from stageflow_limits where instr(scope, '/') > 0"
                )
            }
            work = tx.rows(_OPEN)
        for work_type, running, ready in work:
            scope = scope_of(work_type)
            if scope is not None:
                job_type, _, task_type = scope.partition("/")
                state = states[scope] if scope in states else TaskTypeState(job_type=job_type, task_type=task_type)
                update = {"running": state.running + running, "ready": state.ready + ready}
                states[scope] = state.model_copy(update=update)
        return [states[scope] for scope in sorted(states)]

    def get_job_limit(self, job_id: str) -> int | None:
        """Return how many tasks of a job may run at once; ``None`` where it has no limit, or is not there."""
        with self._database.reading() as tx:
            row = tx.row("select max_running from stageflow_limits where scope = ?", (job_id,))
        return None if row is None else row[0]


def _ensure(tx: Transaction, scope: str) -> None:
    tx.run("insert into stageflow_limits (scope) values (?) on conflict (scope) do nothing", (scope,))


def _tell(tx: Transaction, scope: str) -> None:
    """Have workers look again, and messages sent again for what is ready."""
    for (work_type,) in tx.rows("select distinct work_type from stageflow_ranges where state = 'ready'"):
        if scope_of(work_type) == scope:
            tx.run("update stageflow_ranges set announced_at = null where work_type = ? and state = 'ready'", (work_type,))
    tx.work_ready = True


def _state(row: Row, now: int) -> TaskTypeState:
    scope, max_running, rate, declared_running, declared_rate, overridden, paused_at, spent_at = row
    job_type, _, task_type = scope.partition("/")
    next_start = None
    if rate is not None:
        next_start = from_micros(now + span_micros(max(0.0, 1 - granted_starts(now, spent_at, rate)) / rate))
    return TaskTypeState(
        job_type=job_type,
        task_type=task_type,
        max_running=max_running,
        max_per_second=rate,
        declared_max_running=declared_running,
        declared_max_per_second=declared_rate,
        overridden=bool(overridden),
        paused_since=None if paused_at is None else nearest_time(stored_time(paused_at)),
        next_start_at=next_start,
    )
