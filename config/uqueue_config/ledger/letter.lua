-- Read one dead letter by its number or by its job's id: {number, fields in the order of the arguments}, or false.
local number = redis.call('HGET', 'uqueue:job:' .. ARGV[3], 'letter') or string.match(ARGV[3], '^%d+$')
if not number or redis.call('EXISTS', LETTER .. number) == 0 then return false end
return { number, redis.call('HMGET', LETTER .. number, unpack(ARGV, 4)) }
