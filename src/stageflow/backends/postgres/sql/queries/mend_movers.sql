select stageflow.mend_movers($1::bigint)
