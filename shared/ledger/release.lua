-- Put a leased shard back: given back by its worker, or (with a crash) taken from one that does not renew.
-- KEYS: 1 the job, 2 its shards, 3 its ready shards, 4 the turns of the job's model, 5 the turn counter, 6 the leases
-- ARGV: 1 job id, 2 shard, 3 attempt (-1: whichever, if its time is over), 4 crashes to add
-- Returns 1, or 0 where the lease was not held.
local member = ARGV[1] .. '/' .. ARGV[2]
local held_until = redis.call('ZSCORE', KEYS[6], member)
local text = redis.call('HGET', KEYS[2], ARGV[2])
if not held_until then return 0 end
if not text then redis.call('ZREM', KEYS[6], member) return 0 end
local entry = cjson.decode(text)
local time = redis.call('TIME')
if ARGV[3] == '-1' then
  if tonumber(held_until) > time[1] + time[2] / 1e6 then return 0 end
elseif entry.attempt ~= tonumber(ARGV[3]) then
  return 0
end
entry.crashes = entry.crashes + ARGV[4]
entry.owner = nil
redis.call('ZREM', KEYS[6], member)
redis.call('HSET', KEYS[2], ARGV[2], cjson.encode(entry))
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[2])
local state, priority = unpack(redis.call('HMGET', KEYS[1], 'state', 'priority'))
if state == 'planning' or state == 'running' then
  redis.call('ZADD', KEYS[4], 'NX', -priority * 1e12 + redis.call('INCR', KEYS[5]), ARGV[1])
end
return 1
