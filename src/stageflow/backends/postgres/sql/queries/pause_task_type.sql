select stageflow.pause_task_type($1::text, $2::boolean)
