#!lua flags=allow-oom
-- Add what a process has counted, once however often and however late it is sent: tokens are numbers that grow. Answers
-- 1, or 0 for a parcel that is here already.
-- KEYS: of the token, the list of localizations, the hash of gateways, then hashes of sums.
-- ARGV: token; how many localizations are kept; the gateway or ''; its requests in work; how many localizations come,
-- oldest first, and those; then for each hash how long it lives (0: for ever), its number of pairs, field and amount.
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], ARGV[3], ARGV[4] .. ' ' .. string.format('%d', now_ms)) end
if tonumber(ARGV[1]) <= tonumber(redis.call('GET', KEYS[1]) or 0) then return 0 end

local records = tonumber(ARGV[5])
for at = 6, 5 + records do redis.call('LPUSH', KEYS[2], ARGV[at]) end
if records > 0 then redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[2]) - 1) end

local at = 6 + records
for index = 4, #KEYS do
  local key, ttl, pairs_here = KEYS[index], tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  for _ = 1, pairs_here do
    redis.call('HINCRBYFLOAT', key, ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  if ttl > 0 then redis.call('EXPIRE', key, ttl) end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', 86400)
return 1
