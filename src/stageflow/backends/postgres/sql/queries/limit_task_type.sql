select stageflow.limit_task_type($1::text, $2::boolean, $3::integer, $4::double precision)
