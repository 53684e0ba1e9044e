-- Give control work back: done, or due again later.
-- ARGV: 1 work, 2 token, 3 seconds until it is due again ('' : it is done), 4 error ('': it went well), 5 '1': no failure
-- Returns 1, or 0 where another has it.
local work = ARGV[1]
local row = holds(work, ARGV[2])
if not row then return 0 end
if ARGV[3] == '' and not row.again then
  call('HDEL', key('work', 'rows'), work)
  call('ZREM', key('work', 'due'), work)
  return 1
end
local later = row.again and 0 or tonumber(ARGV[3])
if ARGV[5] == '1' then row.failures = math.max(row.failures - 1, 0) end
if ARGV[4] == '' then row.failures = 0 end
row.error = ARGV[4] ~= '' and ARGV[4] or nil
row.token, row.again = nil, nil
put_row(work, row, now() + later)
return 1
