-- Count a committed shard, exactly once, and take it off the ledger; admit more; end the job where it was the last.
-- ARGV: 1 the job's ref, 2 shard, 3 attempt (-1: whichever), 4 succeeded, 5 failed, 6 skipped, 7 roll-up,
--       8 shards a roll-up
-- Returns {'finished' | 'already' | 'stale', the job's state, 1 where control work has become due, shards admitted}.
local ref, shard = ARGV[1], ARGV[2]
local job = key('job', ref)
local state, admitted = unpack(call('HMGET', job, 'state', 'admitted'))
local text = call('HGET', job .. ':shards', shard)
if not text then
  local number = tonumber(shard)
  local known = admitted and (not number or number < tonumber(admitted))
  return {known and 'already' or 'stale', state or 'failed', 0, 0}
end
if ARGV[3] ~= '-1' and cjson.decode(text).attempt ~= tonumber(ARGV[3]) then return {'stale', state, 0, 0} end
call('HDEL', job .. ':shards', shard)
call('ZREM', job .. ':ready', shard)
call('ZREM', key('leases'), ref .. '/' .. shard)
for _, field in ipairs(call('HKEYS', job .. ':journal')) do
  if string.sub(field, 1, #shard + 1) == shard .. ':' then call('HDEL', job .. ':journal', field) end
end
call('HSET', job, 'progress_at', now())
call('HDEL', job, 'trouble')
if not tonumber(shard) then
  wake('plan/' .. ref)
  return {'finished', state, 1, 0}
end
call('HINCRBY', job, 'succeeded', ARGV[4])
call('HINCRBY', job, 'failed', ARGV[5])
call('HINCRBY', job, 'skipped', ARGV[6])
call('HINCRBY', job, 'shards_done', 1)
local done = job .. ':done:' .. ARGV[7]
call('HSET', done, shard, ARGV[4] .. ',' .. ARGV[5] .. ',' .. ARGV[6])
local rolled = call('HLEN', done) == tonumber(ARGV[8])
if rolled then wake('rollup/' .. ref .. '/' .. ARGV[7]) end
local count = admit(ref)
local after = conclude(ref)
return {'finished', after, (rolled or after ~= state) and 1 or 0, count}
