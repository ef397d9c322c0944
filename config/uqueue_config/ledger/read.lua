-- Read a job: {record fields, result or false}. The result is left out unless asked for.
local with_result = ARGV[4] == '1'

current_state()
return { redis.call('HGETALL', record), with_result and redis.call('GET', result) }
