-- A job's report is stored: it is over, and its working keys go.
-- KEYS: 1 the job, 2 its shards, 3 its ready shards, 4 its journal, 5 the open jobs, 6 the turns of its model
-- ARGV: 1 job id, 2 seconds to keep it, then the final counts: 3 items, 4 succeeded, 5 failed, 6 skipped
-- Returns the job's state.
local time = redis.call('TIME')
if redis.call('HGET', KEYS[1], 'state') == 'finalizing' then redis.call('HSET', KEYS[1], 'state', 'completed') end
redis.call('HSET', KEYS[1], 'total', ARGV[3], 'planned', ARGV[3], 'succeeded', ARGV[4], 'failed', ARGV[5], 'skipped', ARGV[6])
redis.call('HSETNX', KEYS[1], 'finished_at', time[1] + time[2] / 1e6)
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('SREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HGET', KEYS[1], 'state')
