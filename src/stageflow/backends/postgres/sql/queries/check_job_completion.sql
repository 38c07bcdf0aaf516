select c.o_complete, c.o_updated, c.o_status, c.o_final_stage, c.o_final_stage_id, c.o_total, c.o_successful, c.o_failed
from stageflow.check_job_completion(
    $1::text, $2::bigint, $3::bigint, $4::bigint, $5::text, $6::text, $7::text, $8::integer[], $9::text[], $10::text[],
    $11::boolean[], $12::double precision[], $13::integer[], $14::integer[], $15::text[]) c
