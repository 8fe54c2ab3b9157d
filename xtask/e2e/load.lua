-- wrk's script: varied requests, and an end without a request in flight.
--
-- wrk stops when its time is over and closes its sockets as they are; what was in flight then is in a capture but
-- not in the server's log, or the other way round. So a thread here has one connection, counts its answers, and
-- stops itself at the last of them: wrk sends the next request only after its event loop's next turn, which does not
-- come. The number of answers is a multiple of the pipelining depth, so nothing is left unanswered either.
--
-- wrk -t THREADS -c THREADS -s load.lua URL -- ANSWERS-PER-THREAD DEPTH RUN [close|pages]
--
-- close: a connection for every request. pages: nothing but the files.

local threads = 0

function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end

function init(args)
    total, depth, run = tonumber(args[1]), tonumber(args[2]), args[3]
    headers = { ["Host"] = "shop.example", ["User-Agent"] = "wrk/" .. run }
    if args[4] == "close" then
        headers["Connection"] = "close"
    end
    pages = args[4] == "pages"
    number, answered = id * 7, 0
end

local function with(name, value)
    local copy = { [name] = value }
    for key, old in pairs(headers) do
        copy[key] = old
    end
    return copy
end

local function one()
    number = number + 1
    local kind = pages and 6 or number % 20
    local place = run .. "/" .. id .. "/" .. number
    if kind < 6 then
        return wrk.format("GET", "/items/" .. place .. "?page=" .. number % 9 .. "&sort=price", headers)
    elseif kind < 11 then
        return wrk.format("GET", "/pages/" .. number % 50 .. ".html", headers)
    elseif kind < 14 then
        return wrk.format("GET", "/pages/" .. number % 50 .. ".html?v=" .. number, with("If-None-Match", "*"))
    elseif kind < 16 then
        return wrk.format("GET", "/old/" .. place, headers)
    elseif kind < 18 then
        return wrk.format("GET", "/missing/" .. place, headers)
    elseif kind < 19 then
        return wrk.format("POST", "/orders/" .. place, headers, string.rep("x", number % 700 + 1))
    end
    return wrk.format("DELETE", "/empty/" .. place, headers)
end

function request()
    local batch = {}
    for position = 1, depth do
        batch[position] = one()
    end
    return table.concat(batch)
end

function response()
    answered = answered + 1
    if answered == total then
        wrk.thread:stop()
    end
end
