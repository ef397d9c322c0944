-- Keep where the end of a job is to be told, before the job is opened. KEYS: the sorted set of webhooks with something
-- to do, by when. Answers new, same (told there already), or conflict: the job is known without it, or with another.
look_at(ARGV[3])
local url, prefix, first_look_ms = ARGV[4], ARGV[5], tonumber(ARGV[6])
local webhook = 'uqueue:webhook:' .. job_id

local known = redis.call('HGET', webhook, 'url')
if known == url then return 'same' end
if redis.call('HGET', record, 'state') then return 'conflict' end
redis.call('HSET', webhook, 'state', 'waiting', 'url', url, 'prefix', prefix, 'created_at', now_ms, 'tries', 0)
redis.call('ZADD', KEYS[1], now_ms + first_look_ms, job_id)
return 'new'
