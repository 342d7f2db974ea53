-- S3 as far as uploads and downloads need it, without a check and almost without a copy: see nginx.py.
local M = {}
local objects = ngx.shared.objects
-- What a body is read by: larger strings are mapped and unmapped each time, which took twice as long as the rest.
local CHUNK = 64 * 1024
local KEEP = 1024 * 1024
local ETAG = '"5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e"'

local function xml(root, content, status)
    ngx.status = status or 200
    ngx.header["Content-Type"] = "application/xml"
    local text = '<?xml version="1.0" encoding="UTF-8"?>\n<' .. root .. ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        .. content .. "</" .. root .. ">"
    ngx.header["Content-Length"] = #text
    ngx.print(text)
end

local function failure(status, code)
    ngx.status = status
    ngx.header["Content-Type"] = "application/xml"
    local text = ngx.req.get_method() == "HEAD" and "" or "<Error><Code>" .. code .. "</Code><Message>sink</Message></Error>"
    ngx.header["Content-Length"] = #text
    ngx.print(text)
end

local function escape(text)
    return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

-- Kept are our own documents; a checkpoint's files are what is measured.
local function kept(key, length)
    return length <= KEEP and (key:find("/.raystorage/", 1, true) or key:match("%.json$") or key:match("%.csv$")) and true
end

local function discard()
    local length = tonumber(ngx.var.http_content_length)
    if not length then
        ngx.req.read_body()
        return
    end
    if length == 0 then return end
    local socket = assert(ngx.req.socket())
    socket:settimeout(600000)
    while length > 0 do
        local data, err = socket:receive(math.min(length, CHUNK))
        if not data then return ngx.exit(ngx.ERROR) end
        length = length - #data
    end
end

local function body()
    ngx.req.read_body()
    local data = ngx.req.get_body_data()
    if data then return data end
    local path = ngx.req.get_body_file()
    if not path then return "" end
    local file = assert(io.open(path, "rb"))
    data = file:read("*a")
    file:close()
    return data
end

local function echo_checksums()
    for name, value in pairs(ngx.req.get_headers()) do
        if name:match("^x%-amz%-checksum%-crc") then ngx.header[name] = value end
    end
end

local function size()
    return tonumber(ngx.var.http_x_amz_decoded_content_length or ngx.var.http_content_length) or 0
end

local function stored(key)
    local entry = objects:get("o:" .. key)
    if not entry then return nil end
    local length, etag = entry:match("^(%d+) (.*)$")
    return tonumber(length), etag
end

-- A list looks at what lies beside its prefix alone, as stores do: clients must not pay for what others have put before.
local function groups(key)
    return key:match("^[^/]*/"), key:match("^[^/]*/[^/]*/")
end

local function register(key)
    for _, group in pairs({ groups(key) }) do
        objects:set("n:" .. group .. ":" .. objects:incr("g:" .. group, 1, 0), key)
    end
end

-- Some that have been removed and some twice may be among them.
local function registered(prefix)
    local wide, narrow = groups(prefix)
    local group, keys = narrow or wide, {}
    if not group then
        for _, name in ipairs(objects:get_keys(0)) do keys[#keys + 1] = name:match("^o:(.*)$") end
        return keys
    end
    for number = 1, objects:get("g:" .. group) or 0 do
        -- None: the other worker is about to write it.
        keys[#keys + 1] = objects:get("n:" .. group .. ":" .. number)
    end
    return keys
end

local function store(key, length, content)
    local etag = ETAG
    if not objects:get("o:" .. key) then register(key) end
    if content then
        etag = string.format('"%032x"', objects:incr("version", 1, 0))
        objects:set("c:" .. key, content)
    end
    objects:set("o:" .. key, length .. " " .. etag)
    return etag
end

local function put(key)
    local length = size()
    local there, etag = stored(key)
    local none_match, match = ngx.var.http_if_none_match, ngx.var.http_if_match
    -- nginx would judge them once more, by the answer.
    ngx.req.clear_header("If-None-Match")
    ngx.req.clear_header("If-Match")
    if (none_match == "*" and there) or (match and match ~= etag) then
        discard()
        return failure(412, "PreconditionFailed")
    end
    local content
    if kept(key, length) then content = body() else discard() end
    ngx.header["ETag"] = store(key, length, content)
    ngx.header["Content-Length"] = 0
    echo_checksums()
end

local function get(key)
    local length, etag = stored(key)
    if not length then return failure(404, "NoSuchKey") end
    local match = ngx.var.http_if_match
    ngx.req.clear_header("If-Match")
    if match and match ~= etag then return failure(412, "PreconditionFailed") end
    ngx.header["ETag"] = etag
    local content = objects:get("c:" .. key)
    if content then
        ngx.header["Content-Length"] = #content
        ngx.header["Last-Modified"] = ngx.http_time(ngx.time())
        if ngx.req.get_method() ~= "HEAD" then
            local first, last = (ngx.var.http_range or ""):match("^bytes=(%d+)%-(%d*)$")
            if first then
                first, last = tonumber(first), math.min(tonumber(last) or #content - 1, #content - 1)
                ngx.status = 206
                ngx.header["Content-Range"] = "bytes " .. first .. "-" .. last .. "/" .. #content
                content = content:sub(first + 1, last + 1)
                ngx.header["Content-Length"] = #content
            end
            ngx.print(content)
        end
        return
    end
    local workload, name = key:match("^([^/-]+)%-.*/([^/]+)$")
    return ngx.exec("/-/files/" .. workload .. "/" .. name)
end

local function list(bucket, arguments)
    local prefix, delimiter = arguments.prefix or "", arguments.delimiter or ""
    if prefix == true then prefix = "" end
    if delimiter == true then delimiter = "" end
    local after = arguments["continuation-token"] or arguments["start-after"] or ""
    local limit = tonumber(arguments["max-keys"]) or 1000
    local encode = arguments["encoding-type"] == "url" and function(text)
        return (text:gsub("[^%w%-_.~/]", function(one) return string.format("%%%02X", one:byte()) end))
    end or escape
    local keys, seen = {}, {}
    for _, key in ipairs(registered(prefix)) do
        if key:sub(1, #prefix) == prefix and key > after and not seen[key] and stored(key) then
            keys[#keys + 1], seen[key] = key, true
        end
    end
    table.sort(keys)
    local content, count, last, truncated = {}, 0, nil, false
    for _, key in ipairs(keys) do
        local cut = delimiter ~= "" and key:find(delimiter, #prefix + 1, true)
        local entry = cut and key:sub(1, cut + #delimiter - 1) or key
        if entry ~= last and not (cut and entry <= after) then
            if count == limit then
                truncated = true
                break
            end
            count, last = count + 1, entry
            if cut then
                content[#content + 1] = "<CommonPrefixes><Prefix>" .. encode(entry) .. "</Prefix></CommonPrefixes>"
            else
                local length, etag = stored(key)
                content[#content + 1] = "<Contents><Key>" .. encode(key)
                    .. "</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>" .. escape(etag) .. "</ETag><Size>"
                    .. length .. "</Size><StorageClass>STANDARD</StorageClass></Contents>"
            end
        end
    end
    local head = "<Name>" .. bucket .. "</Name><Prefix>" .. encode(prefix) .. "</Prefix><KeyCount>" .. count
        .. "</KeyCount><MaxKeys>" .. limit .. "</MaxKeys><IsTruncated>" .. tostring(truncated) .. "</IsTruncated>"
    if arguments["encoding-type"] == "url" then head = head .. "<EncodingType>url</EncodingType>" end
    if truncated then
        -- For the first version of the call as well.
        head = head .. "<NextContinuationToken>" .. escape(last) .. "</NextContinuationToken><NextMarker>" .. encode(last)
            .. "</NextMarker>"
    end
    xml("ListBucketResult", head .. table.concat(content))
end

local function remove(key)
    objects:delete("o:" .. key)
    objects:delete("c:" .. key)
end

local function complete(bucket, key, upload)
    local total, count = 0, 0
    for number in body():gmatch("<PartNumber>(%d+)</PartNumber>") do
        local name = "p:" .. upload .. ":" .. number
        local length = objects:get(name)
        if not length then return failure(400, "InvalidPart") end
        objects:delete(name)
        total, count = total + length, count + 1
    end
    store(key, total, nil)
    local sum = ngx.var.http_x_amz_checksum_crc32c
    sum = sum and "<ChecksumCRC32C>" .. sum .. "</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType>" or ""
    xml("CompleteMultipartUploadResult", "<Location>/" .. bucket .. "</Location><Bucket>" .. bucket .. "</Bucket><Key>"
        .. escape(key) .. "</Key><ETag>" .. ETAG .. "</ETag>" .. sum)
end

local function multipart(method, bucket, key, arguments)
    local upload = arguments.uploadId
    if method == "POST" and arguments.uploads then
        discard()
        upload = string.format("upload%08x", objects:incr("upload", 1, 0))
        xml("InitiateMultipartUploadResult", "<Bucket>" .. bucket .. "</Bucket><Key>" .. escape(key) .. "</Key><UploadId>"
            .. upload .. "</UploadId>")
    elseif method == "PUT" then
        local length = size()
        discard()
        objects:set("p:" .. upload .. ":" .. arguments.partNumber, length)
        ngx.header["ETag"] = ETAG
        ngx.header["Content-Length"] = 0
        echo_checksums()
    elseif method == "POST" then
        complete(bucket, key, upload)
    elseif method == "DELETE" then
        ngx.status = 204
    else
        xml("ListPartsResult", "<IsTruncated>false</IsTruncated>")
    end
end

local function of_bucket(method, bucket, arguments)
    if method == "GET" and arguments.uploads then
        xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>")
    elseif method == "GET" and arguments.location then
        xml("LocationConstraint", "us-east-1")
    elseif method == "GET" and arguments.versioning then
        xml("VersioningConfiguration", "")
    elseif method == "GET" then
        list(bucket, arguments)
    elseif method == "POST" then
        for key in body():gmatch("<Key>(.-)</Key>") do remove(key) end
        xml("DeleteResult", "")
    else
        ngx.header["x-amz-bucket-region"] = "us-east-1"
        ngx.header["Content-Length"] = 0
    end
end

function M.serve()
    local method, arguments = ngx.req.get_method(), ngx.req.get_uri_args(100)
    local path = ngx.unescape_uri((ngx.var.request_uri:gsub("%?.*", ""):gsub("%+", "%%2B")))
    local bucket, key = path:match("^/([^/]*)/?(.*)$")
    ngx.header["x-amz-request-id"] = "SINK"
    if key == "" then return of_bucket(method, bucket, arguments) end
    if arguments.uploads or arguments.uploadId then return multipart(method, bucket, key, arguments) end
    if method == "PUT" then return put(key) end
    if method == "GET" or method == "HEAD" then return get(key) end
    if method == "DELETE" then
        remove(key)
        ngx.status = 204
        return
    end
    failure(501, "NotImplemented")
end

return M
