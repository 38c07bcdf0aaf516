-- $1 is the separator of the packed texts.
select coalesce(array_agg(c.place), '{}'), stageflow.clock()
from stageflow.create_jobs(
    string_to_array($2, $1, ''), string_to_array($3, $1, ''), $4::integer[], $5::integer[],
    string_to_array($6, $1, ''), string_to_array($7, $1, ''), string_to_array($8, $1, ''), $9::integer[],
    $10::double precision[], string_to_array($11, $1, ''), string_to_array($12, $1, ''), $13::boolean[],
    $14::double precision[], $15::integer[], $16::double precision[], $17::double precision[]) as c (place)
