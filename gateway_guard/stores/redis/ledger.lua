-- The ledger: a batch of operations on debts, in one step that nothing can come between.
--
-- A subject's row is one hash: for each quota `name` -> level and its time; `:` -> what concerns the row as a whole; `:id` -> a hold that is not settled.
-- The arithmetic is that of the store in memory. Expired holds are given back when their row is touched, as of the moment of their expiry.
-- KEYS[1] is the sender's journal (the number of its last batch that was carried out: a batch that is sent again counts once), the others are rows.
-- ARGV[1], msgpack: {batch number (0: not journalled), live, {operation, ...}}; operation: {verb, at, until, hold, patience, {part, ...}};
-- part: {row, names, rates, bursts, costs, held, opened, filled}. Reply: for each operation a string of doubles: ok, wait, short, the levels, the time of each part
-- (below zero: its row was never charged). An inheritance has its version for `until` and two members more: {{heir's part, source's part, share, lives}, ...}, and
-- the number of the key of the version that was moved last.

local SPECK = 1e-9
local SPEND, ADJUST, PEEK, INHERIT = 1, 2, 3, 4
local NEVER = 1e300
-- Seconds that a drained row is kept: a clock that is set back forgets no debt.
local GRACE = 60
-- What never drains (requests in flight) and is held by nobody is forgotten after a day without use.
local IDLE = 86400
-- A sender's journal outlives whatever it may still want to send again.
local JOURNAL = 3600000

local clock = redis.call('TIME')
local server = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local number, live, operations = unpack(cmsgpack.unpack(ARGV[1]))
local rows = {}

-- The row with the levels of `names`, read once a batch.
local function loaded(index, names)
  local row = rows[index]
  if not row then
    row = {key = KEYS[index + 1], levels = {}, changed = {}, gone = {}, latest = 0, earliest = NEVER, ends = 0, known = false, charged = false, touched = false}
    rows[index] = row
    local found = redis.call('HMGET', row.key, ':', unpack(names))
    if found[1] then
      row.known = true
      row.latest, row.earliest, row.ends = struct.unpack('<ddd', found[1])
      -- What a cluster inherits may come before its first charge: as of time 0, and its opening is still to come.
      row.charged = row.latest > 0
    end
    for i, name in ipairs(names) do row.levels[name] = found[i + 1] and {struct.unpack('<dd', found[i + 1])} or false end
    return row
  end
  for _, name in ipairs(names) do
    if row.levels[name] == nil then
      local packed = row.known and redis.call('HGET', row.key, name)
      row.levels[name] = packed and {struct.unpack('<dd', packed)} or false
    end
  end
  return row
end

-- The level of `name` as of the row's time.
local function drained(row, name, rate)
  local found = row.levels[name]
  if not found then return 0 end
  local level = found[1] - rate * (row.latest - found[2])
  if level < SPECK then return 0 end
  return level
end

local function set(row, name, level, rate)
  row.levels[name] = {level, row.latest}
  row.changed[name] = true
  row.touched, row.known, row.charged = true, true, true
  if level > 0 then
    local ends = rate > 0 and row.latest + level / rate or row.latest + IDLE
    if ends > row.ends then row.ends = ends end
  end
end

-- What was owed at one time, at a later one.
local function later(level, since, now, rate)
  level = level - rate * math.max(0, now - since)
  return level > SPECK and level or 0
end

-- Like `set`, as of a time of its own, and charging nobody.
local function moved(row, name, level, since, rate)
  row.levels[name] = {level, since}
  row.changed[name] = true
  row.touched, row.known = true, true
  row.ends = math.max(row.ends, rate > 0 and since + level / rate or since + IDLE)
end

local function sweep(index, row, at)
  if row.earliest > at then return end
  local due, earliest = {}, NEVER
  local all = redis.call('HGETALL', row.key)
  for i = 1, #all, 2 do
    local field = all[i]
    if #field > 1 and string.sub(field, 1, 1) == ':' and not row.gone[field] then
      local hold = cmsgpack.unpack(all[i + 1])
      if hold[1] <= at then
        due[#due + 1] = {field, hold}
      elseif hold[1] < earliest then
        earliest = hold[1]
      end
    end
  end
  row.earliest, row.touched = earliest, true
  table.sort(due, function(a, b) return a[2][1] < b[2][1] end)
  for _, entry in ipairs(due) do
    local field, hold = unpack(entry)
    if hold[1] > row.latest then row.latest = hold[1] end
    loaded(index, hold[2])
    for i, name in ipairs(hold[2]) do
      set(row, name, drained(row, name, hold[4][i]) - hold[3][i], hold[4][i])
    end
    row.gone[field] = true
  end
end

-- The row of a part at the operation's time. A bucket that was never charged held `filled` of its burst when it was opened.
local function row_of(part, at)
  local row = loaded(part[1], part[2])
  sweep(part[1], row, at)
  if at > row.latest then row.latest = at end
  local fill = nil
  if part[7] > 0 and not row.charged then fill = function(line)
    return math.max(later(part[4][line] * part[8], part[7], row.latest, part[3][line]), drained(row, part[2][line], part[3][line]))
  end end
  return row, fill
end

-- All charges on top of what is owed: the new levels, the longest wait and whose it is.
local function worked(parts, at, free)
  local drafts, levels, wait, short = {}, {}, 0, -1
  for _, part in ipairs(parts) do
    local row, fill = row_of(part, at)
    local draft = drafts[row] or {}
    drafts[row] = draft
    for line, name in ipairs(part[2]) do
      local rate, burst, cost = part[3][line], part[4][line], free and 0 or part[5][line]
      local before = draft[name] and draft[name][1] or (fill and fill(line)) or drained(row, name, rate)
      local level = before + cost
      draft[name] = {level, rate}
      levels[#levels + 1] = level
      if level - burst > SPECK then
        local needed = NEVER
        if rate > 0 and cost <= burst + SPECK then needed = (level - burst) / rate end
        if short < 0 or needed > wait then wait, short = needed, #levels - 1 end
      end
    end
  end
  return drafts, levels, wait, short
end

local function keep_hold(operation, until_)
  local found = {}
  for _, part in ipairs(operation[6]) do
    local hold = found[part[1]] or {until_, {}, {}, {}}
    for line, held in ipairs(part[6]) do
      if held ~= 0 then
        local at = #hold[2] + 1
        hold[2][at], hold[3][at], hold[4][at] = part[2][line], held, part[3][line]
        found[part[1]] = hold
      end
    end
  end
  for index, hold in pairs(found) do
    local row = rows[index]
    row.gone[':' .. operation[4]] = nil
    redis.call('HSET', row.key, ':' .. operation[4], cmsgpack.pack(hold))
    if until_ < row.earliest then row.earliest = until_ end
    if until_ > row.ends then row.ends = until_ end
    row.touched, row.known, row.charged = true, true, true
  end
end

local function holds(row, hold)
  return row.known and not row.gone[':' .. hold] and redis.call('HEXISTS', row.key, ':' .. hold) == 1
end

local function is_held(operation)
  for _, part in ipairs(operation[6]) do
    if holds(rows[part[1]], operation[4]) then return true end
  end
  return false
end

local function peeked(operation, at)
  local _, levels = worked(operation[6], at, true)
  return {1, 0, -1, levels}
end

local function spent(operation, at)
  local hold = operation[4]
  local drafts, levels, wait, short = worked(operation[6], at, false)
  if wait > operation[5] then
    local owed = peeked(operation, at)
    return {0, wait, short, owed[4]}
  end
  -- Carried out before, though the answer was lost: once is enough.
  if hold ~= '' and is_held(operation) then return peeked(operation, at) end
  for row, draft in pairs(drafts) do
    for name, change in pairs(draft) do set(row, name, change[1], change[2]) end
  end
  if hold ~= '' then keep_hold(operation, at + operation[3] - operation[2]) end
  return {1, wait, short, levels}
end

local function adjusted(operation, at)
  local hold, ended, levels = operation[4], {}, {}
  for _, part in ipairs(operation[6]) do
    local row, fill = row_of(part, at)
    if hold ~= '' and ended[row] == nil then
      ended[row] = holds(row, hold)
      if ended[row] then row.gone[':' .. hold], row.touched = true, true end
    end
    for line, name in ipairs(part[2]) do
      -- A hold that has expired was given back: what it held must not be given back a second time.
      local cost, rate = part[5][line], part[3][line]
      if hold ~= '' and not ended[row] then cost = cost + part[6][line] end
      local level = fill and fill(line) or drained(row, name, rate)
      if cost ~= 0 then
        level = level + cost
        set(row, name, level, rate)
      end
      levels[#levels + 1] = level > 0 and level or 0
    end
  end
  return {1, 0, -1, levels}
end

-- Debts that move, all by what everybody owed before; once for each version.
local function inherited(operation, at)
  local parts, version, before = operation[6], operation[3], {}
  local marker = KEYS[operation[8] + 1]
  if tonumber(redis.call('GET', marker) or '0') >= version then return peeked(operation, at) end
  for i, part in ipairs(parts) do
    local row = row_of(part, at)
    before[i] = {}
    for line, name in ipairs(part[2]) do before[i][line] = row.levels[name] or {0, 0} end
  end
  for _, share in ipairs(operation[7]) do
    local heir, source, rates = rows[parts[share[1]][1]], rows[parts[share[2]][1]], parts[share[1]][3]
    for line, name in ipairs(parts[share[1]][2]) do
      local owed, rate = before[share[2]][line], rates[line]
      local amount = owed[1] * share[3]
      if amount > SPECK then
        if share[4] then
          local own = source.levels[name]
          moved(source, name, math.max(0, own[1] - later(amount, owed[2], own[2], rate)), own[2], rate)
        end
        local own = heir.levels[name] or {0, 0}
        local now = math.max(own[2], owed[2])
        moved(heir, name, later(own[1], own[2], now, rate) + later(amount, owed[2], now, rate), now, rate)
      end
    end
  end
  redis.call('SET', marker, string.format('%.0f', version))
  return peeked(operation, at)
end

local function written(row)
  local set_, gone = {':', struct.pack('<ddd', row.charged and row.latest or 0, row.earliest, row.ends)}, {}
  for name in pairs(row.changed) do
    local level = row.levels[name]
    if level[1] > SPECK then
      set_[#set_ + 1] = name
      set_[#set_ + 1] = struct.pack('<dd', level[1], level[2])
    else
      gone[#gone + 1] = name
    end
  end
  for field in pairs(row.gone) do gone[#gone + 1] = field end
  -- What a full memory refuses comes first, so that a refused batch has done nothing.
  redis.call('HSET', row.key, unpack(set_))
  if #gone > 0 then redis.call('HDEL', row.key, unpack(gone)) end
  redis.call('PEXPIRE', row.key, math.ceil((math.max(0, row.ends - row.latest) + GRACE) * 1000))
end

local again = number > 0 and tonumber(redis.call('GET', KEYS[1]) or '0') >= number
local act = {[SPEND] = spent, [ADJUST] = adjusted, [PEEK] = peeked, [INHERIT] = inherited}
local results = {}
for i, operation in ipairs(operations) do
  local at = live and server or operation[2]
  local result = (again and peeked or act[operation[1]])(operation, at)
  local numbers = {result[1], result[2], result[3], unpack(result[4])}
  for _, part in ipairs(operation[6]) do
    local row = rows[part[1]]
    numbers[#numbers + 1] = row.charged and row.latest or -row.latest
  end
  results[i] = struct.pack('<' .. string.rep('d', #numbers), unpack(numbers))
end
for _, row in pairs(rows) do
  if row.touched then written(row) end
end
if number > 0 and not again then redis.call('SET', KEYS[1], number, 'PX', JOURNAL) end
return results
