-- $1 is the separator of the packed texts.
select r.place
from stageflow.return_ranges(
    $2::bigint[], $3::bigint[], $4::integer[], $5::double precision[], string_to_array($6, $1, '')) as r (place)
