-- $5 is the separator of the packed texts.
select stageflow.fire_schedule(
    $1::text, $2::timestamptz, $3::timestamptz, $4::timestamptz,
    string_to_array($6, $5, ''), string_to_array($7, $5, ''), $8::integer[], $9::integer[],
    string_to_array($10, $5, ''), string_to_array($11, $5, ''), string_to_array($12, $5, ''), $13::integer[],
    $14::double precision[], string_to_array($15, $5, ''), string_to_array($16, $5, ''), $17::boolean[],
    $18::double precision[], $19::integer[], $20::double precision[], $21::double precision[])
