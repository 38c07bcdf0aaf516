select w.o_due, w.o_closed from stageflow.recover_waiting($1::integer) w
