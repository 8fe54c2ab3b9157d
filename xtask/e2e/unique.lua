-- wrk's script: no path is asked for twice.
--
-- wrk -t 1 -c CONNECTIONS -s unique.lua URL

local number = 0

function request()
    number = number + 1
    return wrk.format("GET", "/items/" .. number)
end
