-- Faults on the way to a real server; what to do lies in the shared dictionary `orders`.
local M = {}
local orders = ngx.shared.orders

function M.orders()
    for name, value in pairs(ngx.req.get_uri_args()) do orders:set(name, tonumber(value)) end
    orders:set("count", 0)
    ngx.say("{}")
end

local function hit()
    local every = orders:get("every") or 1
    return orders:incr("count", 1, 0) % every == 0
end

function M.access()
    local delay = orders:get("delay") or 0
    if delay > 0 then ngx.sleep(delay) end
    local rate = orders:get("rate") or 0
    if rate > 0 then ngx.var.limit_rate = rate end
    local status, reset = orders:get("status") or 0, orders:get("reset") or 0
    if status == 0 and reset == 0 then return end
    if not hit() then return end
    if status ~= 0 then
        ngx.req.read_body()
        ngx.status = status
        ngx.header["Content-Type"] = "application/xml"
        ngx.print("<Error><Code>SlowDown</Code><Message>by order</Message></Error>")
        return ngx.exit(status)
    end
    ngx.ctx.reset = reset
end

function M.body()
    local left = ngx.ctx.reset
    if not left then return end
    left = left - #ngx.arg[1]
    ngx.ctx.reset = left
    if left <= 0 then return ngx.ERROR end
end

return M
