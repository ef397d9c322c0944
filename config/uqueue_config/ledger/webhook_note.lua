-- Note what became of one try: retry (after some time), delivered, failed, or later: it was not made. KEYS: the sorted set of webhooks with
-- something to do. Answers whether it counted: a try that ends after its lease says something only if it was a success.
look_at(ARGV[3])
local try, outcome, delay_ms, status, reason = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
local webhook = 'uqueue:webhook:' .. job_id

local fields = redis.call('HMGET', webhook, 'state', 'tries')
if fields[1] ~= 'sending' or (fields[2] ~= try and outcome ~= 'delivered') then return 0 end
if outcome == 'later' then
  redis.call('HINCRBY', webhook, 'tries', -1)
  redis.call('ZADD', KEYS[1], now_ms + delay_ms, job_id)
  return 1
end
redis.call('HSET', webhook, 'status', status, 'reason', reason)
if outcome == 'retry' then
  redis.call('HSET', webhook, 'next_at', now_ms + delay_ms)
  redis.call('ZADD', KEYS[1], now_ms + delay_ms, job_id)
else
  redis.call('HSET', webhook, 'state', outcome)
  redis.call('HDEL', webhook, 'next_at')
  redis.call('ZREM', KEYS[1], job_id)
  redis.call('EXPIRE', webhook, record_ttl)
end
return 1
