-- Outlier detection: ejects a replica whose responses fail while those of the others succeed.
--
-- A replica that fails at once looks idle, so leastconn would send it most of the traffic. Each 5xx response of a replica
-- comes here (`http-response lua.outlier`). A replica is ejected if it failed at least LEAST times, and far more often than
-- the other replicas of its backend did meanwhile: by DEVIATIONS standard deviations of a binomial distribution with
-- their rate. So a route that fails on every replica ejects none. At most half of a backend's replicas are ejected at a
-- time. An ejected one has weight 0: it gets no new requests; those in flight and streams go on. It comes back by itself,
-- after a time that grows with each ejection. The terms and the times are Envoy's (outlier detection).

local LEAST = 5          -- failed responses
local DEVIATIONS = 6
local WINDOW = 10        -- seconds after which counting begins anew
local PAUSE = 0.05       -- seconds between two comparisons of a backend: a flood of errors must cost little
local EJECTION = 10      -- seconds, times the number of ejections
local LONGEST = 300      -- seconds; after as long in rotation, the number begins anew

local windows = {}       -- by backend: when it began, and what each server had counted by then
local ejected = {}       -- by server: until when, and its address
local history = {}       -- by server: how many times it was ejected, and when it last came back

local function now()
  local time = core.now()
  return time.sec + time.usec / 1000000
end

local function counts(server)
  local stats = server:get_stats()
  local total = 0
  for _, class in ipairs({"1xx", "2xx", "3xx", "4xx", "5xx", "other"}) do
    total = total + (tonumber(stats["hrsp_" .. class]) or 0)
  end
  return {total = total, failed = tonumber(stats.hrsp_5xx) or 0, up = stats.status:sub(1, 2) == "UP"}
end

-- What each server of the backend has answered in this window.
local function compare(backend)
  local window, time, found = windows[backend], now(), {}
  for name, server in pairs(core.backends[backend].servers) do
    found[name] = counts(server)
  end
  if not window or time - window.began > WINDOW then
    window = {began = time, base = window and window.last or found}
    windows[backend] = window
  end
  window.compared, window.last = time, found
  for name, count in pairs(found) do
    local base = window.base[name] or count
    if count.total < base.total then base = {total = 0, failed = 0} end  -- its counters were cleared
    window.base[name] = base
    count.responses, count.failures = count.total - base.total, count.failed - base.failed
  end
  return found
end

local function eject(server, key, why)
  local past = history[key]
  if not past or now() - past.back > LONGEST then past = {times = 0, back = 0} end
  past.times = past.times + 1
  local seconds = math.min(EJECTION * past.times, LONGEST)
  history[key] = past
  ejected[key] = {server = server, till = now() + seconds, address = server:get_addr()}
  server:set_weight("0%")
  core.log(core.warning, string.format("Server %s is ejected for %d s: %s", key, seconds, why))
end

core.register_action("outlier", {"http-res"}, function(txn)
  local backend, name = txn.f:be_name(), txn.f:srv_name()
  local key, window = backend .. "/" .. name, windows[backend]
  if ejected[key] or (window and now() - window.compared < PAUSE) then return end
  local found = compare(backend)
  local own = found[name]
  local others, failures, up, out = 0, 0, 0, 0
  for other, count in pairs(found) do
    if ejected[backend .. "/" .. other] then
      out = out + 1
    elseif count.up then
      up = up + 1
    end
    if other ~= name then
      others, failures = others + count.responses, failures + count.failures
    end
  end
  local rate = (failures + 1) / (others + 4)  -- as if they had failed once and succeeded three times before
  local expected = own.responses * rate
  local limit = expected + DEVIATIONS * math.sqrt(expected * (1 - rate))
  if own.failures >= LEAST and own.failures > limit and 2 * (out + 1) <= up + out then
    eject(core.backends[backend].servers[name], key, string.format("%d of its last %d responses failed, %d of %d of the other replicas'",
      own.failures, own.responses, failures, others))
  end
end)

core.register_task(function()
  for _, backend in pairs(core.backends) do  -- a reload keeps weights, and forgets ejections
    for _, server in pairs(backend.servers) do
      if server:get_weight() == 0 then server:set_weight("100%") end
    end
  end
  while true do
    core.msleep(250)
    for key, ejection in pairs(ejected) do
      if now() > ejection.till or ejection.server:get_addr() ~= ejection.address then  -- its slot has a new replica
        ejected[key] = nil
        history[key].back = now()
        windows[key:match("^[^/]*")] = nil
        ejection.server:set_weight("100%")
        core.log(core.notice, string.format("Server %s is back after its ejection", key))
      end
    end
  end
end)
