-- The ledger: a batch of operations on debts, in one step that nothing can come between.
--
-- A subject's row is one string: its time, when its first hold ends, when all of it has drained (doubles), the names of its quotas, and for each of them level
-- and time. One string costs half of what a hash costs, in memory and in time. Holds that are not settled are fields of a hash beside it, which is there
-- only while there are some. The arithmetic is that of the store in memory. Expired holds are given back when their row is touched, as of the moment of
-- their expiry.
-- KEYS[1] is the sender's journal (the number of its last batch that was carried out: a batch that is sent again counts once), then come rows, each
-- with its holds.
-- ARGV[1], msgpack: {batch number (0: not journalled), live, {tariff, ...}, {operation, ...}}; tariff: {names with commas, rates, bursts};
-- operation: {verb, at, until, hold, patience, {part, ...}}; part: {row, tariff, costs, held, opened, filled}.
-- Reply: for each operation a string of doubles: ok, wait, short, the levels, the time of each part (below zero: its row was never charged).
-- An inheritance has its version for `until` and one member more: {{heir's part, source's part, share, lives}, ...}; the last of KEYS is then that of the version
-- by which debts were moved last.

local SPECK = 1e-9
local SPEND, ADJUST, PEEK, INHERIT = 1, 2, 3, 4
local NEVER = 1e300
-- Seconds that a drained row is kept: a clock that is set back forgets no debt.
local GRACE = 60
-- What never drains (requests in flight) and is held by nobody is forgotten after a day without use.
local IDLE = 86400
-- A sender's journal outlives whatever it may still want to send again.
local JOURNAL = 3600000

local call, pack, unpacked, rep, max = redis.call, struct.pack, struct.unpack, string.rep, math.max
local clock = call('TIME')
local server = clock[1] + clock[2] / 1000000
local number, live, tariffs, operations = unpack(cmsgpack.unpack(ARGV[1]))
local rows = {}

-- The row, read once a batch. `numbers`: level and time by turns, in the order of `names`.
local function loaded(index)
  local row = rows[index]
  if row then return row end
  row = {key = KEYS[2 * index], holds = KEYS[2 * index + 1], latest = 0, earliest = NEVER, ends = 0, names = '', numbers = {}, count = 0}
  row.places, row.gone, row.kept, row.known, row.charged, row.touched, row.mixed = {}, {}, {}, false, false, false, false
  rows[index] = row
  local found = call('GET', row.key)
  if found then
    local at
    row.known = true
    row.latest, row.earliest, row.ends, row.names, at = unpacked('<dddHc0', found)
    -- What a cluster inherits may come before its first charge: as of time 0, and its opening is still to come.
    row.charged = row.latest > 0
    row.count = (#found - at + 1) / 8
    row.numbers = {unpacked('<' .. rep('d', row.count), found, at)}
  end
  return row
end

-- Where the level of `name` is; a quota that the row does not know gets a place.
local function place(row, name)
  local at = 1
  for known in string.gmatch(row.names, '[^,]+') do
    if known == name then return at end
    at = at + 2
  end
  row.names = row.names == '' and name or row.names .. ',' .. name
  row.numbers[at], row.numbers[at + 1] = 0, 0
  row.count, row.mixed = at + 1, true
  return at
end

-- Where the levels of a tariff's quotas are: nearly always in its own order.
local function placed(row, tariff)
  row.tariff = tariff
  local found = row.places[tariff]
  if found then return found end
  local names, count = tariff[1], 2 * #tariff[2]
  found = {}
  if not row.known and row.count == 0 then
    row.names, row.count = names, count
    for at = 1, count do row.numbers[at] = 0 end
  end
  if row.names == names then
    for line = 1, #tariff[2] do found[line] = 2 * line - 1 end
  else
    for name in string.gmatch(names, '[^,]+') do found[#found + 1] = place(row, name) end
  end
  row.places[tariff] = found
  return found
end

-- The level at `at` as of the row's time.
local function drained(row, at, rate)
  local level = row.numbers[at] - rate * (row.latest - row.numbers[at + 1])
  return level < SPECK and 0 or level
end

-- What was owed at one time, at a later one.
local function later(level, since, now, rate)
  level = level - rate * max(0, now - since)
  return level > SPECK and level or 0
end

local function set(row, at, level, rate)
  local latest = row.latest
  row.numbers[at], row.numbers[at + 1] = level, latest
  if level > 0 then
    local ends = latest + (rate > 0 and level / rate or IDLE)
    if ends > row.ends then row.ends = ends end
  end
end

-- A hold is a string too: for each part when it ends, the names of the quotas, what is held of each, and their rates. Gives one back.
local function give_back(row, hold)
  local ends, names, at = 0, '', 1
  while at <= #hold do
    ends, names, at = unpacked('<dHc0', hold, at)
    row.latest = max(row.latest, ends)
    local line, count = 0, select(2, string.gsub(names, '[^,]+', ''))
    for name in string.gmatch(names, '[^,]+') do
      local held, rate = unpacked('<d', hold, at + 8 * line), unpacked('<d', hold, at + 8 * (line + count))
      if held ~= 0 then
        local where = place(row, name)
        set(row, where, drained(row, where, rate) - held, rate)
      end
      line = line + 1
    end
    at = at + 16 * count
  end
end

-- Give back what has expired, in the order of time.
local function sweep(row, at)
  local due, earliest = {}, NEVER
  local function look(id, hold)
    local ends = unpacked('<d', hold)
    if ends <= at then
      due[#due + 1] = {ends, id, hold}
    elseif ends < earliest then
      earliest = ends
    end
  end
  local all = call('HGETALL', row.holds)
  for i = 1, #all, 2 do
    if not row.gone[all[i]] and not row.kept[all[i]] then look(all[i], all[i + 1]) end
  end
  for id, hold in pairs(row.kept) do look(id, hold) end
  table.sort(due, function(a, b) return a[1] < b[1] end)
  for _, entry in ipairs(due) do
    give_back(row, entry[3])
    row.gone[entry[2]], row.kept[entry[2]] = true, nil
  end
  row.earliest, row.touched = earliest, true
end

-- The row of a part at the operation's time.
local function row_of(part, at)
  local row = loaded(part[1])
  if row.earliest <= at then sweep(row, at) end
  if at > row.latest then row.latest = at end
  return row
end

-- What an operation needs of a part.
local function ready(part, at)
  local row, tariff = row_of(part, at), tariffs[part[2]]
  return row, tariff, placed(row, tariff)
end

-- The level of a line. A bucket that was never charged held `filled` of its burst when it was opened.
local function owed(row, part, line, where, tariff)
  local rate = tariff[2][line]
  local level = drained(row, where, rate)
  if part[5] == 0 or row.charged then return level end
  return max(level, later(tariff[3][line] * part[6], part[5], row.latest, rate))
end

-- Rows that were changed by a charge.
local function charge(row)
  row.touched, row.known, row.charged = true, true, true
end

local function answered(operation, found, ok, wait, short)
  found[1], found[2], found[3] = ok, wait, short
  for _, part in ipairs(operation[6]) do
    local row = rows[part[1]]
    found[#found + 1] = row.charged and row.latest or -row.latest
  end
  return pack('<' .. rep('d', #found), unpack(found))
end

local function peeked(operation, at)
  local found = {1, 0, -1}
  for _, part in ipairs(operation[6]) do
    local row, tariff, places = ready(part, at)
    for line = 1, #places do found[#found + 1] = owed(row, part, line, places[line], tariff) end
  end
  return found
end

local function holds(row, hold)
  if row.kept[hold] then return true end
  return row.earliest < NEVER and not row.gone[hold] and call('HEXISTS', row.holds, hold) == 1
end

local function is_held(operation, at)
  for _, part in ipairs(operation[6]) do
    if holds(row_of(part, at), operation[4]) then return true end
  end
  return false
end

local function keep_hold(operation, ends)
  local id = operation[4]
  for _, part in ipairs(operation[6]) do
    local row, tariff, held, any = rows[part[1]], tariffs[part[2]], part[4], false
    for line = 1, #held do any = any or held[line] ~= 0 end
    if any then
      local count, names = #held, tariff[1]
      local hold = pack('<dHc0' .. rep('d', count), ends, #names, names, unpack(held)) .. pack('<' .. rep('d', count), unpack(tariff[2]))
      row.kept[id] = row.kept[id] and row.kept[id] .. hold or hold
      row.gone[id] = nil
      if ends < row.earliest then row.earliest = ends end
      if ends > row.ends then row.ends = ends end
    end
  end
end

-- All charges on top of what is owed: what is to be answered, what stood there before, and how long until all of it fits. The hot loop: no calls in it.
local function charged(operation, at)
  local found, before, wait, short = {1, 0, -1}, {}, 0, -1
  local count, n = 3, 0
  for _, part in ipairs(operation[6]) do
    local row, tariff, places = ready(part, at)
    local rates, bursts, costs, numbers, latest, drains = tariff[2], tariff[3], part[3], row.numbers, row.latest, 0
    local opens = part[5] > 0 and not row.charged
    for line = 1, #places do
      local where, cost, rate, burst = places[line], costs[line], rates[line], bursts[line]
      local known, since = numbers[where], numbers[where + 1]
      local level = known - rate * (latest - since)
      if opens then level = owed(row, part, line, where, tariff) end
      level = level < SPECK and cost or level + cost
      before[n + 1], before[n + 2], before[n + 3], before[n + 4] = numbers, where, known, since
      numbers[where], numbers[where + 1] = level, latest
      n, count = n + 4, count + 1
      found[count] = level
      if rate == 0 then
        if level > 0 and IDLE > drains then drains = IDLE end
      elseif level > rate * drains then
        drains = level / rate
      end
      if level - burst > SPECK then
        local needed = (rate > 0 and cost <= burst + SPECK) and (level - burst) / rate or NEVER
        if short < 0 or needed > wait then wait, short = needed, count - 4 end
      end
    end
    if latest + drains > row.ends then row.ends = latest + drains end
  end
  return found, before, wait, short
end

local function spent(operation, at)
  -- Carried out before, though the answer was lost: once is enough.
  if operation[4] ~= '' and is_held(operation, at) then return answered(operation, peeked(operation, at), 1, 0, -1) end
  local found, before, wait, short = charged(operation, at)
  if wait > operation[5] then
    for i = #before - 3, 1, -4 do
      local numbers, where = before[i], before[i + 1]
      numbers[where], numbers[where + 1] = before[i + 2], before[i + 3]
    end
    return answered(operation, peeked(operation, at), 0, wait, short)
  end
  for _, part in ipairs(operation[6]) do charge(rows[part[1]]) end
  if operation[4] ~= '' then keep_hold(operation, at + operation[3] - operation[2]) end
  return answered(operation, found, 1, wait, short)
end

local function adjusted(operation, at)
  local hold, ended, found, count = operation[4], {}, {1, 0, -1}, 3
  for _, part in ipairs(operation[6]) do
    local row, tariff, places = ready(part, at)
    local rates, costs, back, changed = tariff[2], part[3], part[4], false
    if hold ~= '' and ended[row] == nil then
      ended[row] = holds(row, hold)
      if ended[row] then row.gone[hold], row.kept[hold], changed = true, nil, true end
    end
    -- A hold that has expired was given back: what it held must not be given back a second time.
    local spent_before = hold ~= '' and not ended[row]
    for line = 1, #places do
      local where, cost = places[line], costs[line]
      if spent_before then cost = cost + back[line] end
      local level = owed(row, part, line, where, tariff)
      if cost ~= 0 then
        level, changed = level + cost, true
        set(row, where, level, rates[line])
      end
      count = count + 1
      found[count] = level > 0 and level or 0
    end
    if changed then charge(row) end
  end
  return answered(operation, found, 1, 0, -1)
end

-- Like `set`, as of a time of its own, and charging nobody.
local function moved(row, at, level, since, rate)
  row.numbers[at], row.numbers[at + 1] = level, since
  row.touched, row.known = true, true
  row.ends = max(row.ends, since + (rate > 0 and level / rate or IDLE))
end

-- Debts that move, all by what everybody owed before; once for each version.
local function inherited(operation, at)
  local parts, version, before = operation[6], operation[3], {}
  local marker = KEYS[#KEYS]
  if tonumber(call('GET', marker) or '0') >= version then return answered(operation, peeked(operation, at), 1, 0, -1) end
  for i, part in ipairs(parts) do
    local row, _, places = ready(part, at)
    before[i] = {}
    for line, where in ipairs(places) do before[i][line] = {row.numbers[where], row.numbers[where + 1], where} end
  end
  for _, share in ipairs(operation[7]) do
    local heir, source, rates = rows[parts[share[1]][1]], rows[parts[share[2]][1]], tariffs[parts[share[1]][2]][2]
    for line, rate in ipairs(rates) do
      local level, since, there = unpack(before[share[2]][line])
      local amount, here = level * share[3], before[share[1]][line][3]
      if amount > SPECK then
        if share[4] then
          local own, as_of = source.numbers[there], source.numbers[there + 1]
          moved(source, there, max(0, own - later(amount, since, as_of, rate)), as_of, rate)
        end
        local own, as_of = heir.numbers[here], heir.numbers[here + 1]
        local now = max(as_of, since)
        moved(heir, here, later(own, as_of, now, rate) + later(amount, since, now, rate), now, rate)
      end
    end
  end
  call('SET', marker, string.format('%.0f', version))
  return answered(operation, peeked(operation, at), 1, 0, -1)
end

-- Quotas of another policy leave the row when they have drained; the order becomes that of the tariff which was used last.
local function ordered(row)
  local numbers, names, found, seen = {}, {}, row.numbers, {}
  local function add(name, at)
    names[#names + 1], seen[name] = name, true
    numbers[2 * #names - 1], numbers[2 * #names] = found[at], found[at + 1]
  end
  for name in string.gmatch(row.tariff and row.tariff[1] or '', '[^,]+') do add(name, place(row, name)) end
  for name in string.gmatch(row.names, '[^,]+') do
    local at = place(row, name)
    if not seen[name] and found[at] > 0 then add(name, at) end
  end
  row.names, row.numbers, row.count = table.concat(names, ','), numbers, 2 * #names
end

-- A command whose arguments may be more than Lua hands over at once.
local function call_in_parts(command, key, list)
  for first = 1, #list, 2000 do call(command, key, unpack(list, first, math.min(#list, first + 1999))) end
end

local function written(row)
  local numbers = row.numbers
  for at = 1, row.count, 2 do
    if numbers[at] <= SPECK then numbers[at], numbers[at + 1] = 0, 0 end
  end
  if row.mixed then ordered(row) end
  local kept, gone, names, count = {}, {}, row.names, row.count
  for id, hold in pairs(row.kept) do kept[#kept + 1], kept[#kept + 2] = id, hold end
  for id in pairs(row.gone) do gone[#gone + 1] = id end
  local lives = math.ceil((max(0, row.ends - row.latest) + GRACE) * 1000)
  -- What a full memory refuses comes first, so that a refused batch has done nothing.
  local value = pack('<dddHc0' .. rep('d', count), row.charged and row.latest or 0, row.earliest, row.ends, #names, names, unpack(row.numbers, 1, count))
  call('SET', row.key, value, 'PX', lives)
  if #kept > 0 then
    call_in_parts('HSET', row.holds, kept)
    call('PEXPIRE', row.holds, lives)
  end
  if #gone > 0 then call_in_parts('HDEL', row.holds, gone) end
end

local again = number > 0 and tonumber(call('GET', KEYS[1]) or '0') >= number
local act = {[SPEND] = spent, [ADJUST] = adjusted, [INHERIT] = inherited}
act[PEEK] = function(operation, at) return answered(operation, peeked(operation, at), 1, 0, -1) end
if again then act = {act[PEEK], act[PEEK], act[PEEK], act[PEEK]} end
local results = {}
for i, operation in ipairs(operations) do
  results[i] = act[operation[1]](operation, live and server or operation[2])
end
for _, row in pairs(rows) do
  if row.touched then written(row) end
end
if number > 0 and not again then call('SET', KEYS[1], number, 'PX', JOURNAL) end
return results
