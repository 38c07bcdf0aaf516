-- The results of several narrow stages, each whole, in index order.
select asked.stage_id, r.task_index, r.attempt, r.status, r.result, r.error_details, r.seconds, r.completed_at
from unnest($1::bigint[]) as asked (stage_id)
cross join lateral stageflow.read_results(asked.stage_id, 0, 2147483647) r
