select r.task_index, r.attempt, r.status, r.result, r.error_details, r.seconds, r.completed_at
from stageflow.read_results($1::bigint, $2::integer, $3::integer) r
