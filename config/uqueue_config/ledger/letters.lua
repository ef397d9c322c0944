-- Read dead letters, newest first: {how many there are, [fields, ...]}. Fields come in the order of the arguments.
local first, count = tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}
for _, number in ipairs(redis.call('LRANGE', DEAD, first, first + count - 1)) do
  found[#found + 1] = { number, redis.call('HMGET', LETTER .. number, unpack(ARGV, 5)) }
end
return { redis.call('LLEN', DEAD), found }
