-- Count a committed shard, exactly once, and take it off the ledger.
-- KEYS: 1 the job, 2 its shards, 3 its ready shards, 4 the leases, 5 its journal
-- ARGV: 1 job id, 2 shard, 3 attempt (-1: whichever), 4 succeeded, 5 failed, 6 skipped, 7 window
-- Returns {'finished' | 'already' | 'stale', the job's state, 1 where the planner should go on}.
local state, shards = unpack(redis.call('HMGET', KEYS[1], 'state', 'shards'))
local entry = redis.call('HGET', KEYS[2], ARGV[2])
if not entry then
  return {shards and tonumber(ARGV[2]) < tonumber(shards) and 'already' or 'stale', state or 'failed', 0}
end
if ARGV[3] ~= '-1' and cjson.decode(entry).attempt ~= tonumber(ARGV[3]) then return {'stale', state, 0} end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('ZREM', KEYS[4], ARGV[1] .. '/' .. ARGV[2])
for _, field in ipairs(redis.call('HKEYS', KEYS[5])) do
  if string.match(field, '^' .. ARGV[2] .. ':') then redis.call('HDEL', KEYS[5], field) end
end
redis.call('HINCRBY', KEYS[1], 'succeeded', ARGV[4])
local failed = redis.call('HINCRBY', KEYS[1], 'failed', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'skipped', ARGV[6])
local done = redis.call('HINCRBY', KEYS[1], 'shards_done', 1)
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'progress_at', time[1] + time[2] / 1e6)
local total, rate = unpack(redis.call('HMGET', KEYS[1], 'total', 'max_failure_rate'))
if (state == 'running' or state == 'planning') and total ~= '' and failed > rate * total then
  state = 'failed'
elseif state == 'running' and done == tonumber(shards) then
  state = 'finalizing'
end
redis.call('HSET', KEYS[1], 'state', state)
local hungry = state == 'planning' and redis.call('HLEN', KEYS[2]) * 2 <= tonumber(ARGV[7])
return {'finished', state, hungry and 1 or 0}
