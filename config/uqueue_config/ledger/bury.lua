-- Keep a message that cannot be a job as a dead letter, with the reason. Answers the letter's number.
local queue, message, size, reason, id = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
return bury(queue, message, size, reason, id)
