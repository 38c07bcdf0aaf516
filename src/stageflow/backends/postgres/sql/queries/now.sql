select stageflow.clock()
