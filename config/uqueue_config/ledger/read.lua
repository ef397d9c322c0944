-- Read a job: {record fields in the order of the arguments, result or false}. The result is left out unless asked for.
look_at(ARGV[3])
local with_result = ARGV[4] == '1'

current_state()
return { redis.call('HMGET', record, unpack(ARGV, 5)), with_result and redis.call('GET', result) }
