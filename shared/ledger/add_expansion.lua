-- Let a worker look into a stored chunk of the listing.
-- ARGV: 1 the job's ref, 2 token, 3 chunk
-- Returns 'added', 'stale' where another planner went on, else the job's state.
local ref, member = ARGV[1], 'e' .. ARGV[3]
local job = key('job', ref)
if not holds('plan/' .. ref, ARGV[2]) then return 'stale' end
local state = call('HGET', job, 'state')
if state ~= 'planning' then return state end
if call('HSETNX', job .. ':shards', member, '{"attempt":0,"crashes":0}') == 1 then
  -- Before every shard: nothing can be planned until it is done.
  call('ZADD', job .. ':ready', -1, member)
end
take_turn(ref)
return 'added'
