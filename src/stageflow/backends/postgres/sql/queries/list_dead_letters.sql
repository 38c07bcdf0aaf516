select l.queue, l.message_id, l.body, l.reason, l.delivery_count, l.letter_id, l.state, l.created_at
from stageflow.dead_letters l
where l.letter_id > $2::bigint and ($3::text is null or l.state = $3::text)
order by l.letter_id
limit $1::integer
