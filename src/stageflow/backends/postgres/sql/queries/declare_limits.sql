select stageflow.declare_limits($1::text[], $2::integer[], $3::double precision[])
