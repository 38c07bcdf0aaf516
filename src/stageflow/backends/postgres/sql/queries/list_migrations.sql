select m.version, m.checksum from stageflow.migrations m order by m.version
