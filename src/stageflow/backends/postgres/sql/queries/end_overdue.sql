select stageflow.end_overdue($1::text, $2::integer, $3::text)
