-- Store an outcome if the job has none yet. Answers 1 for the writer that was first, 0 for every later one.
local state, celery_meta, error_json = ARGV[4], ARGV[5], ARGV[6]

if is_terminal(redis.call('HGET', record, 'state')) then return 0 end
finish(state, celery_meta, error_json)
return 1
