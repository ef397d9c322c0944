-- Forget dead letters. Answers how many there were.
local dropped = 0
for at = 3, #ARGV do
  dropped = dropped + redis.call('LREM', DEAD, 1, ARGV[at])
  redis.call('DEL', LETTER .. ARGV[at])
end
return dropped
