select l.max_running from stageflow.limits l where l.scope = $1::text
