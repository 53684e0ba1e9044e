-- Lease the next ready shard of a model: highest priority first, then the jobs in turn.
-- KEYS: 1 the turns of the model, 2 the turn counter, 3 the leases
-- ARGV: 1 key prefix of jobs, 2 owner, 3 lease seconds
-- The job's own keys are built here, since which job it is is decided here.
-- Returns {job id, shard, attempt, crashes}, or nil where nothing is ready.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
while true do
  local job_id = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  if not job_id then return nil end
  local job = ARGV[1] .. job_id
  local state, priority = unpack(redis.call('HMGET', job, 'state', 'priority'))
  local claimable = state == 'planning' or state == 'running'
  local shard = claimable and redis.call('ZPOPMIN', job .. ':ready')[1]
  if shard then
    local entry = cjson.decode(redis.call('HGET', job .. ':shards', shard))
    entry.attempt = entry.attempt + 1
    entry.owner = ARGV[2]
    redis.call('HSET', job .. ':shards', shard, cjson.encode(entry))
    redis.call('ZADD', KEYS[3], now + ARGV[3], job_id .. '/' .. shard)
    redis.call('HSETNX', job, 'started_at', now)
    redis.call('ZADD', KEYS[1], -priority * 1e12 + redis.call('INCR', KEYS[2]), job_id)
    return {job_id, tonumber(shard), entry.attempt, entry.crashes}
  end
  redis.call('ZREM', KEYS[1], job_id)
end
