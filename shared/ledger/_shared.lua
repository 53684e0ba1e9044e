-- What several moves share; it stands before each of them.
-- KEYS[1] is the prefix of every key: which job a move is about, some learn only here.
local unpack, call = unpack, redis.call

local function key(...) return KEYS[1] .. ':' .. table.concat({...}, ':') end

local function now()
  local time = call('TIME')
  return time[1] + time[2] / 1e6
end

-- Control work ------------------------------------------------------------------------------------------------------

local function work_row(work)
  local text = call('HGET', key('work', 'rows'), work)
  return text and cjson.decode(text)
end

local function put_row(work, row, due)
  call('HSET', key('work', 'rows'), work, cjson.encode(row))
  if due then call('ZADD', key('work', 'due'), due, work) end
end

-- Make control work due now; who has it in hand at the moment does it again.
local function wake(work)
  local row = work_row(work) or {failures = 0}
  if row.token then
    row.again = true
    put_row(work, row)
  else
    put_row(work, row, now())
  end
end

local function holds(work, token)
  local row = work_row(work)
  return row and row.token == tonumber(token) and row
end

-- Progress is no failure: only who dies again and again at the same place is given up.
local function made_progress(work, token)
  local row = holds(work, token)
  if not row then return false end
  row.failures = 0
  put_row(work, row)
  return true
end

-- Jobs --------------------------------------------------------------------------------------------------------------

-- As maskmill/shared/jobs/keys.py makes a ref.
local function tenant_of(ref)
  return string.match(ref, '^(.+)%.') or 'default'
end

-- Let the job take part in the claims of its model: the tenants in turn, then of a tenant's jobs the highest priority
-- first, then who waited longest.
local function take_turn(ref)
  local model, priority = unpack(call('HMGET', key('job', ref), 'model', 'priority'))
  local tenant = tenant_of(ref)
  call('ZADD', key('turns', model, tenant), 'NX', -priority * 1e12 + call('INCR', key('turn')), ref)
  call('ZADD', key('tenants', model), 'NX', call('INCR', key('turn')), tenant)
  call('SADD', key('models'), model)
end

-- Its tenant leaves the round with the last of its jobs.
local function leave_turns(ref, model)
  local tenant = tenant_of(ref)
  local turns = key('turns', model, tenant)
  call('ZREM', turns, ref)
  if call('EXISTS', turns) == 0 then call('ZREM', key('tenants', model), tenant) end
end

local ATTEMPTS_A_RUN = 1000000

-- Make planned shards claimable, up to the window and only once half of it is free. Returns how many.
local function admit(ref)
  local job = key('job', ref)
  local state, planned, admitted, window, retry =
    unpack(call('HMGET', job, 'state', 'shards', 'admitted', 'window', 'retry'))
  if state ~= 'planning' and state ~= 'running' then return 0 end
  local held = call('HLEN', job .. ':shards')
  if held * 2 > tonumber(window) then return 0 end
  local upto = math.min(tonumber(planned), admitted + window - held)
  local count = math.max(upto - admitted, 0)
  -- Who still holds a shard of an earlier run shows an attempt that is none of this one's.
  local fresh = '{"attempt":' .. (retry or 0) * ATTEMPTS_A_RUN .. ',"crashes":0}'
  for shard = tonumber(admitted), upto - 1 do
    call('HSET', job .. ':shards', shard, fresh)
    call('ZADD', job .. ':ready', shard, shard)
  end
  if count > 0 then
    call('HSET', job, 'admitted', upto)
    take_turn(ref)
  end
  return count
end

local LEAST_JUDGED = 100

local function fails_too_often(job)
  local failed, succeeded, skipped, total, rate, retry =
    unpack(call('HMGET', job, 'failed', 'succeeded', 'skipped', 'total', 'max_failure_rate', 'retry'))
  local done = failed + succeeded + skipped
  -- What is retried failed before: that a few of it fail again makes no job worse than it was.
  if total ~= '' and tonumber(retry or 0) == 0 and tonumber(failed) > rate * total then return true end
  return done >= LEAST_JUDGED and tonumber(failed) > rate * done
end

-- The job ends, however: nothing more of it is claimed, and closing is due.
local function wind_up(ref, state)
  local job = key('job', ref)
  call('HSET', job, 'state', state)
  call('DEL', job .. ':ready')
  leave_turns(ref, call('HGET', job, 'model'))
  wake('close/' .. ref)
end

-- Apply the rules by which a job ends by itself. Returns its state.
local function conclude(ref)
  local job = key('job', ref)
  local state, total, shards, done = unpack(call('HMGET', job, 'state', 'total', 'shards', 'shards_done'))
  if state ~= 'planning' and state ~= 'running' then return state end
  if fails_too_often(job) then
    wind_up(ref, 'failed')
  elseif total ~= '' and shards == done then
    wind_up(ref, 'finalizing')
  elseif total ~= '' then
    call('HSET', job, 'state', 'running')
  end
  return call('HGET', job, 'state')
end
