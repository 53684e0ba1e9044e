-- Lease the next ready shard (or chunk to look into) of a model: the tenants in turn, then of a tenant's jobs those of
-- the highest priority in turn.
-- ARGV: 1 model, 2 owner, 3 lease seconds
-- Returns {the job's ref, shard, attempt, crashes, 1 where its outcomes may be stored already, the retry that it is of},
-- or nil where nothing is ready.
local model = ARGV[1]

-- The job's next ready shard and its entry; nil where it has none.
local function pop(job, state)
  local claimable = state == 'planning' or state == 'running'
  local shard, text
  repeat
    shard = claimable and call('ZPOPMIN', job .. ':ready')[1]
    text = shard and call('HGET', job .. ':shards', shard)
  until text or not shard
  return shard, text and cjson.decode(text)
end

while true do
  local tenant = call('ZRANGE', key('tenants', model), 0, 0)[1]
  local turns = tenant and key('turns', model, tenant)
  local ref = turns and call('ZRANGE', turns, 0, 0)[1]
  if not ref then
    call('SREM', key('models'), model)
    return nil
  end
  local job = key('job', ref)
  local state, priority, recovered, retry = unpack(call('HMGET', job, 'state', 'priority', 'recovered', 'retry'))
  local shard, entry = pop(job, state)
  if shard then
    entry.attempt = entry.attempt + 1
    entry.owner = ARGV[2]
    call('HSET', job .. ':shards', shard, cjson.encode(entry))
    call('ZADD', key('leases'), now() + ARGV[3], ref .. '/' .. shard)
    call('HSETNX', job, 'started_at', now())
    call('ZADD', turns, -priority * 1e12 + call('INCR', key('turn')), ref)
    call('ZADD', key('tenants', model), call('INCR', key('turn')), tenant)
    local look = entry.attempt % ATTEMPTS_A_RUN > 1 or recovered == '1'
    return {ref, shard, entry.attempt, entry.crashes, look and 1 or 0, tonumber(retry or 0)}
  end
  leave_turns(ref, model)
end
