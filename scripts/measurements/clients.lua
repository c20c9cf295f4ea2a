-- Each request is another client's.
local client = 0
function request()
  client = client + 1
  local address = string.format("10.%d.%d.%d", math.floor(client / 65536) % 256, math.floor(client / 256) % 256, client % 256)
  return wrk.format("GET", nil, {["X-Forwarded-For"] = address})
end
