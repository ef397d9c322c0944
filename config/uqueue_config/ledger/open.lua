-- Accept a job: write its record and push its message, both or neither. Answers {verdict, expected}: opened, same,
-- conflict, or columns / targets when the served model is known to expect another number of them.
local queue, wanted = KEYS[3], KEYS[4]
local digest, model, expires_ms, message = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local columns, targets, queue_is_here = ARGV[8], ARGV[9], ARGV[10] == '1'

local known = redis.call('HGET', record, 'digest')
if known then return { known == digest and 'same' or 'conflict', '' } end

local shape = redis.call('HMGET', wanted, 'n_features', 'n_targets')
if columns ~= '' and shape[1] and shape[1] ~= columns then return { 'columns', shape[1] } end
if targets ~= '' and shape[2] and shape[2] ~= targets then return { 'targets', shape[2] } end

redis.call('HSET', record, 'state', 'queued', 'attempts', 0, 'digest', digest, 'model', model, 'created_at', now_ms,
  'published_at', now_ms, 'queue', queue, 'message', message)
redis.call('ZADD', OPEN_JOBS, now_ms, job_id)
if expires_ms ~= '' then redis.call('HSET', record, 'expires_at', now_ms + tonumber(expires_ms)) end
if queue_is_here then redis.call('LPUSH', queue, message) end
return { 'opened', '' }
