select to_regclass('stageflow.migrations') is not null and to_regclass('stageflow.functions') is not null,
    to_regclass('stageflow.jobs') is not null
