select r.place from stageflow.return_ranges($1::bigint[], $2::bigint[], $3::integer[]) as r (place)
