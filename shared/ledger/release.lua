-- Put a leased shard back: given back by its worker, or (with a crash) taken from one that does not renew.
-- ARGV: 1 the job's ref, 2 shard, 3 attempt (-1: whichever, if its time is over), 4 crashes to add
-- Returns 1, or 0 where the lease was not held.
local ref, shard = ARGV[1], ARGV[2]
local job, member = key('job', ref), ref .. '/' .. shard
local held_until = call('ZSCORE', key('leases'), member)
local text = call('HGET', job .. ':shards', shard)
if not held_until then return 0 end
if not text then
  call('ZREM', key('leases'), member)
  return 0
end
local entry = cjson.decode(text)
if ARGV[3] == '-1' then
  if tonumber(held_until) > now() then return 0 end
elseif entry.attempt ~= tonumber(ARGV[3]) then
  return 0
end
entry.crashes = entry.crashes + ARGV[4]
entry.owner = nil
call('ZREM', key('leases'), member)
call('HSET', job .. ':shards', shard, cjson.encode(entry))
call('ZADD', job .. ':ready', tonumber(shard) or -1, shard)
local state = call('HGET', job, 'state')
if state == 'planning' or state == 'running' then take_turn(ref) end
return 1
