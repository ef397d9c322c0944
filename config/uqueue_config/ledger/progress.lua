-- Note how far a running job is. Answers 1 when it should stop, because it was cancelled or has ended elsewhere.
local rows_done, rows_total = ARGV[4], ARGV[5]

if redis.call('HGET', record, 'state') ~= 'running' then return 1 end
redis.call('HSET', record, 'rows_done', rows_done, 'rows_total', rows_total)
return tonumber(redis.call('HGET', record, 'cancel_requested') or 0)
