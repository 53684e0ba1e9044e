-- Lease the next ready shard (or chunk to look into) of a model: highest priority first, then the jobs in turn.
-- ARGV: 1 model, 2 owner, 3 lease seconds
-- Returns {the job's ref, shard, attempt, crashes, 1 where its outcomes may be stored already}, or nil where nothing is ready.
local turns = key('turns', ARGV[1])
while true do
  local ref = call('ZRANGE', turns, 0, 0)[1]
  if not ref then
    call('SREM', key('models'), ARGV[1])
    return nil
  end
  local job = key('job', ref)
  local state, priority, recovered = unpack(call('HMGET', job, 'state', 'priority', 'recovered'))
  local claimable = state == 'planning' or state == 'running'
  local shard = claimable and call('ZPOPMIN', job .. ':ready')[1]
  local text = shard and call('HGET', job .. ':shards', shard)
  if text then
    local entry = cjson.decode(text)
    entry.attempt = entry.attempt + 1
    entry.owner = ARGV[2]
    call('HSET', job .. ':shards', shard, cjson.encode(entry))
    call('ZADD', key('leases'), now() + ARGV[3], ref .. '/' .. shard)
    call('HSETNX', job, 'started_at', now())
    call('ZADD', turns, -priority * 1e12 + call('INCR', key('turn')), ref)
    return {ref, shard, entry.attempt, entry.crashes, (entry.attempt > 1 or recovered == '1') and 1 or 0}
  elseif not shard then
    call('ZREM', turns, ref)
  end
end
