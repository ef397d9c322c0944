-- Nobody will read the answers of these jobs again: keep them only as long as another attempt may still be under way.
local KEPT_SECONDS = 60
for at = 3, #ARGV do
  look_at(ARGV[at])
  if is_terminal(redis.call('HGET', record, 'state')) then
    redis.call('EXPIRE', record, KEPT_SECONDS, 'LT')
    redis.call('EXPIRE', result, KEPT_SECONDS, 'LT')
  end
end
return #ARGV - 2
