-- wrk's script: varied requests, each after a pause of so many ms.
--
-- wrk -t 1 -c CONNECTIONS -d TIME -s soak.lua URL -- LEAST MOST [close]
--
-- close: a connection for every request.

function init(args)
    least, most = tonumber(args[1]), tonumber(args[2])
    headers = { ["Host"] = "shop.example", ["User-Agent"] = "wrk" }
    if args[3] == "close" then
        headers["Connection"] = "close"
    end
    number = 0
end

function delay()
    return math.random(least, most)
end

function request()
    number = number + 1
    local kind = number % 10
    if kind < 4 then
        return wrk.format("GET", "/items/" .. number .. "?page=" .. number % 9, headers)
    elseif kind < 7 then
        return wrk.format("GET", "/pages/" .. number % 50 .. ".html", headers)
    elseif kind < 8 then
        return wrk.format("GET", "/missing/" .. number, headers)
    elseif kind < 9 then
        return wrk.format("POST", "/orders/" .. number, headers, string.rep("x", number % 700 + 1))
    end
    return wrk.format("DELETE", "/empty/" .. number, headers)
end
