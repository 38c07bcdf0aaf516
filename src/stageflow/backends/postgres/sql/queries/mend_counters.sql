select stageflow.mend_counters($1::bigint)
