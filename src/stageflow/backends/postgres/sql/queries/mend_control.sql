select stageflow.mend_control($1::bigint)
