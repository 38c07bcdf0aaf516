-- $1 is the separator of the packed texts.
select stageflow.add_tasks(
    $2::bigint, $3::bigint, $4::bigint, $5::integer, string_to_array($6, $1, ''), string_to_array($7, $1, ''), $8::text,
    $9::boolean, $10::boolean, $11::integer, $12::boolean)
