select stageflow.resubmit_job(
    $1::text, $2::integer, $3::integer[], $4::text[], $5::text[], $6::boolean[], $7::double precision[], $8::integer[],
    $9::integer[], $10::double precision, $11::double precision)
