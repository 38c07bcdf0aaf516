select p.o_letters, p.o_bytes from stageflow.purge_letters($1::timestamptz, $2::integer, $3::boolean) p
