select stageflow.start_stage_clock($1::bigint, $2::bigint, $3::double precision)
