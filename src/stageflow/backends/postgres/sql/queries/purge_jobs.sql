select p.o_jobs, p.o_tasks, p.o_bytes, p.o_kept, p.o_last_created, p.o_last_id
from stageflow.purge_jobs($1::text, $2::timestamptz, $3::timestamptz, $4::text, $5::integer, $6::integer, $7::boolean) p
