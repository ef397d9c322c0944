-- Store many outcomes in one step, each only if its job has none yet. Arguments after the common ones come in fours:
-- id, state, Celery record, error. Answers how many were first.
local first = 0
for at = 4, #ARGV, 4 do
  job_id, record, result = ARGV[at], 'uqueue:job:' .. ARGV[at], 'celery-task-meta-' .. ARGV[at]
  if not is_terminal(redis.call('HGET', record, 'state')) then
    finish(ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
    first = first + 1
  end
end
return first
