-- Keep a lease, and learn the job's state.
-- KEYS: 1 the job, 2 its shards, 3 the leases
-- ARGV: 1 job id, 2 shard, 3 attempt, 4 lease seconds
-- Returns the job's state, or nil where the lease is lost.
local entry = redis.call('HGET', KEYS[2], ARGV[2])
local member = ARGV[1] .. '/' .. ARGV[2]
if not entry or cjson.decode(entry).attempt ~= tonumber(ARGV[3]) then return nil end
if not redis.call('ZSCORE', KEYS[3], member) then return nil end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], time[1] + time[2] / 1e6 + ARGV[4], member)
return redis.call('HGET', KEYS[1], 'state')
