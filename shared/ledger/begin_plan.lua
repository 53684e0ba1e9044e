-- Begin or go on with planning a job.
-- ARGV: 1 the job's ref, 2 token of the control work
-- Returns {pages, shards, items, cursor, 1 where the job was entered anew, what was left out, the retry}; nil where nothing
-- is to plan
local job = key('job', ARGV[1])
local state, total = unpack(call('HMGET', job, 'state', 'total'))
if (state ~= 'queued' and state ~= 'planning') or total ~= '' then return nil end
if not holds('plan/' .. ARGV[1], ARGV[2]) then return nil end
call('HSET', job, 'state', 'planning')
local pages, shards, planned, cursor, recovered, left_out, retry =
  unpack(call('HMGET', job, 'pages', 'shards', 'planned', 'cursor', 'recovered', 'left_out', 'retry'))
return {
  tonumber(pages), tonumber(shards), tonumber(planned), cursor, tonumber(recovered), left_out or '{}',
  tonumber(retry or 0),
}
