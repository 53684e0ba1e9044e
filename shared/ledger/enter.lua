-- Put an accepted job into the ledger, once.
-- KEYS: 1 the job, 2 all jobs by creation, 3 the open jobs
-- ARGV: 1 job id, 2 creation time, then pairs of fields and values
-- Returns 1, or 0 where the job is there already.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
