-- Only an open letter changes its state; of rivals one does, because the others find it changed.
update stageflow.dead_letters l set state = $2::text
where l.letter_id = $1::bigint and l.state = 'open'
returning l.queue, l.message_id, l.body, l.reason, l.delivery_count, l.letter_id, l.state, l.created_at
