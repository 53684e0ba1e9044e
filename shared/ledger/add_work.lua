-- Let control work be due that is not known yet; what is due, put off or in hand stays as it is.
-- ARGV: work
-- Returns how many of it was not known.
local added = 0
for _, work in ipairs(ARGV) do
  if not work_row(work) then
    wake(work)
    added = added + 1
  end
end
return added
