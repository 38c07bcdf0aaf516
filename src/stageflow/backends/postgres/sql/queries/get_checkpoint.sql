select c.value from stageflow.checkpoints c
where c.stage_id = $1::bigint and c.task_index = $2::integer and c.generation = $3::integer
