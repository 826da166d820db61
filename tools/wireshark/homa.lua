-- Wireshark and tshark dissector for Homa.
--
-- Use: tshark -X lua_script:tools/wireshark/homa.lua -r FILE, or copy this file to the directory of personal
-- Lua plugins (Help > About Wireshark > Folders).
--
-- Homa is recognised
--   * as IP protocol 146;
--   * in TCP frames with exactly SYN and RST set and urgent pointer 0xb97d. This dissector takes the place of
--     TCP's in the table of IP protocols and passes everything else on: TCP's own way to its payload is closed
--     to frames with RST, and its header would swallow Homa's;
--   * in UDP datagrams that begin with a header of the Rust implementation: its magic in the window field,
--     urgent pointer 0xb97d, a valid type. Ports can be chosen by hand with "Decode As". Short packets may follow one
--     another in a datagram.
-- Layout and names follow the wire format of the Linux implementation (July 2026).

local homa = Proto("homa", "Homa transport protocol")

local IP_PROTOCOL_HOMA = 146
local IP_PROTOCOL_TCP = 6
local COMMON_BYTES = 28
local FLAGS = 0x06
local URGENT = 0xb97d
local MAGIC = 0xa000
local VERSION = 3
local OFFSET_IN_SEQUENCE = 0xffffffff
local RESEND_ALL = 0xffffffff
local ACKS_MAX = 5
local EXTENSION_BYTES = 8
local RETRANSMISSION, FRAMED, OPEN = 1, 2, 4

local DATA, GRANT, RESEND, RPC_UNKNOWN, BUSY = 0x10, 0x11, 0x12, 0x13, 0x14
local CUTOFFS, FREEZE, NEED_ACK, ACK = 0x15, 0x16, 0x17, 0x18

local NAMES = {
    [DATA] = "DATA", [GRANT] = "GRANT", [RESEND] = "RESEND", [RPC_UNKNOWN] = "RPC_UNKNOWN",
    [BUSY] = "BUSY", [CUTOFFS] = "CUTOFFS", [FREEZE] = "FREEZE", [NEED_ACK] = "NEED_ACK",
    [ACK] = "ACK",
}

local HEADER_BYTES = {
    [DATA] = 56, [GRANT] = 33, [RESEND] = 37, [RPC_UNKNOWN] = 28, [BUSY] = 28, [CUTOFFS] = 62,
    [FREEZE] = 28, [NEED_ACK] = 28, [ACK] = 80,
}

local REASONS = {
    [0] = "none", [1] = "never seen", [2] = "finished", [3] = "no service at the port",
    [4] = "endpoint is closing", [5] = "rejected by the application", [6] = "server restarted",
    [7] = "message too long", [8] = "overloaded", [9] = "cancelled", [10] = "other version",
    [11] = "probe", [12] = "closing; the request was not executed",
}

local f = {
    source_port = ProtoField.uint16("homa.srcport", "Source port"),
    destination_port = ProtoField.uint16("homa.dstport", "Destination port"),
    sequence = ProtoField.uint32("homa.sequence", "Sequence"),
    incarnation = ProtoField.uint24("homa.incarnation", "Incarnation (native profile)", base.HEX),
    packet_type = ProtoField.uint8("homa.type", "Type", base.HEX, NAMES),
    doff = ProtoField.uint8("homa.doff", "Header length in words", base.DEC, nil, 0xf0),
    flags = ProtoField.uint8("homa.flags", "TCP flags", base.HEX),
    window = ProtoField.uint16("homa.window", "Window", base.HEX),
    version = ProtoField.uint16("homa.version", "Version (native profile)", base.DEC),
    checksum = ProtoField.uint16("homa.checksum", "Checksum", base.HEX),
    urgent = ProtoField.uint16("homa.urgent", "Urgent pointer", base.HEX),
    sender_id = ProtoField.uint64("homa.sender_id", "RPC id of the sender"),
    rpc = ProtoField.uint64("homa.rpc", "RPC id of the client"),
    from_client = ProtoField.bool("homa.from_client", "Sent by the client"),
    message_length = ProtoField.uint32("homa.message_length", "Message length"),
    incoming = ProtoField.uint32("homa.incoming", "Incoming"),
    ack_id = ProtoField.uint64("homa.ack.client_id", "Acknowledged RPC id"),
    ack_port = ProtoField.uint16("homa.ack.server_port", "Server port of the acknowledged RPC"),
    cutoff_version = ProtoField.uint16("homa.cutoff_version", "Version of the cutoffs"),
    retransmit = ProtoField.uint8("homa.retransmit", "Retransmission"),
    framed = ProtoField.bool("homa.framed", "Begins with a frame (native profile)"),
    open = ProtoField.bool("homa.open", "The message may grow (native profile)"),
    echo = ProtoField.uint24("homa.echo", "Echoed incarnation (native profile)", base.HEX),
    seg_offset = ProtoField.uint32("homa.seg_offset", "Segment offset"),
    offset = ProtoField.uint32("homa.offset", "Offset"),
    payload = ProtoField.bytes("homa.payload", "Payload"),
    payload_bytes = ProtoField.uint32("homa.payload_bytes", "Payload length"),
    length = ProtoField.uint32("homa.length", "Length"),
    priority = ProtoField.uint8("homa.priority", "Priority level"),
    cutoff = ProtoField.uint32("homa.cutoff", "Longest message of the level"),
    num_acks = ProtoField.uint16("homa.num_acks", "Number of acknowledgements"),
    reason = ProtoField.uint8("homa.extension.reason", "Reason (native profile)", base.DEC, REASONS),
    value = ProtoField.uint32("homa.extension.value", "Value (native profile)"),
    extension_echo = ProtoField.uint24("homa.extension.echo", "Echoed incarnation (native profile)",
        base.HEX),
    packet_bytes = ProtoField.uint32("homa.packet_bytes", "Packet length"),
}
homa.fields = f

local function breach(name, text)
    return ProtoExpert.new("homa." .. name, text, expert.group.PROTOCOL, expert.severity.WARN)
end

local function malformed(name, text)
    return ProtoExpert.new("homa." .. name, text, expert.group.MALFORMED, expert.severity.ERROR)
end

local function sequence(name, text)
    return ProtoExpert.new("homa." .. name, text, expert.group.SEQUENCE, expert.severity.NOTE)
end

local e = {
    too_short = malformed("too_short", "Shorter than the header of its type"),
    unknown_type = malformed("unknown_type", "There is no such packet type"),
    cut = ProtoExpert.new("homa.cut", "Cut by the recorder before the end of the header",
        expert.group.UNDECODED, expert.severity.NOTE),
    doff = breach("wrong_doff", "Header length is not what this type has"),
    flags = breach("wrong_flags", "Flags are not SYN and RST"),
    urgent = breach("wrong_urgent", "Urgent pointer is not 0xb97d"),
    parity = breach("wrong_parity", "The wrong side sends this"),
    message_length = breach("message_length.invalid", "A message has 1 to 1,000,000 bytes"),
    beyond = breach("beyond_message", "Data behind the end of the message"),
    acks = breach("too_many_acks", "More than 5 acknowledgements"),
    retransmission = sequence("retransmission", "Retransmission"),
    resend = sequence("resend", "Asks for a retransmission"),
}
homa.experts = e

local ALL_BUT_BIT_0 = UInt64(0xfffffffe, 0xffffffff)

local function add_ack(tvb, tree, at)
    tree:add(f.ack_id, tvb(at, 8))
    tree:add(f.ack_port, tvb(at + 8, 2))
end

-- The dissectors of what follows the common header. Each returns text for the info column.
local bodies = {}

bodies[DATA] = function(tvb, tree, from_client, packet_bytes, is_own)
    local message_length = tvb(28, 4):uint()
    local incoming = tvb(32, 4):uint()
    tree:add(f.message_length, tvb(28, 4))
    tree:add(f.incoming, tvb(32, 4))
    if tvb(36, 8):uint64() ~= UInt64(0) then
        add_ack(tvb, tree, 36)
    end
    tree:add(f.cutoff_version, tvb(46, 2))
    local flags = tvb(48, 1):uint()
    local retransmit = flags ~= 0
    if is_own then
        retransmit = bit32.band(flags, RETRANSMISSION) ~= 0
        tree:add(f.framed, tvb(48, 1), bit32.band(flags, FRAMED) ~= 0)
        tree:add(f.open, tvb(48, 1), bit32.band(flags, OPEN) ~= 0)
    end
    local item = tree:add(f.retransmit, tvb(48, 1), retransmit and 1 or 0)
    if retransmit then
        item:add_proto_expert_info(e.retransmission)
    end
    tree:add(f.echo, tvb(49, 3))
    tree:add(f.seg_offset, tvb(52, 4))
    local at = 52
    if tvb(52, 4):uint() == OFFSET_IN_SEQUENCE then
        at = 4
    end
    local offset = tvb(at, 4):uint()
    tree:add(f.offset, tvb(at, 4)):set_generated()
    local payload_bytes = packet_bytes - 56
    tree:add(f.payload_bytes, payload_bytes):set_generated()
    if tvb:captured_len() > 56 then
        tree:add(f.payload, tvb(56))
    end
    if message_length == 0 or (message_length > 1000000 and not is_own) then
        tree:add_proto_expert_info(e.message_length)
    end
    if offset >= message_length or (offset + payload_bytes > message_length and not is_own) then
        tree:add_proto_expert_info(e.beyond)
    end
    local text = string.format("%s %d..%d of %d", from_client and "request" or "response", offset,
        offset + payload_bytes, message_length)
    if retransmit then
        text = text .. ", retransmission"
    elseif offset < incoming then
        text = text .. ", unscheduled"
    end
    return text
end

bodies[GRANT] = function(tvb, tree)
    tree:add(f.offset, tvb(28, 4))
    tree:add(f.priority, tvb(32, 1))
    return string.format("to %d at level %d", tvb(28, 4):uint(), tvb(32, 1):uint())
end

bodies[RESEND] = function(tvb, tree)
    tree:add(f.offset, tvb(28, 4))
    tree:add(f.length, tvb(32, 4))
    tree:add(f.priority, tvb(36, 1))
    tree:add_proto_expert_info(e.resend)
    local offset, length = tvb(28, 4):uint(), tvb(32, 4):uint()
    if length == RESEND_ALL then
        return string.format("all, at level %d", tvb(36, 1):uint())
    end
    return string.format("%d..%d at level %d", offset, offset + length, tvb(36, 1):uint())
end

bodies[CUTOFFS] = function(tvb, tree)
    for level = 0, 7 do
        tree:add(f.cutoff, tvb(28 + 4 * level, 4)):prepend_text("Level " .. level .. ": ")
    end
    tree:add(f.cutoff_version, tvb(60, 2))
    return string.format("version %d", tvb(60, 2):uint())
end

bodies[NEED_ACK] = function(_, tree, from_client, _, is_own)
    -- Either side of the Rust implementation may probe the other.
    if from_client and not is_own then
        tree:add_proto_expert_info(e.parity)
    end
    return ""
end

bodies[ACK] = function(tvb, tree, from_client, _, is_own)
    local count = tvb(28, 2):uint()
    local item = tree:add(f.num_acks, tvb(28, 2))
    if count > ACKS_MAX then
        item:add_proto_expert_info(e.acks)
    end
    for index = 0, math.min(count, ACKS_MAX) - 1 do
        add_ack(tvb, tree, 30 + 10 * index)
    end
    if not from_client and not is_own then
        tree:add_proto_expert_info(e.parity)
    end
    return string.format("and %d more", count)
end

local function add_common(tvb, tree, is_own)
    tree:add(f.source_port, tvb(0, 2))
    tree:add(f.destination_port, tvb(2, 2))
    tree:add(f.sequence, tvb(4, 4))
    tree:add(f.incarnation, tvb(8, 3))
    local type_item = tree:add(f.packet_type, tvb(11, 1))
    local doff_item = tree:add(f.doff, tvb(12, 1))
    local flags_item = tree:add(f.flags, tvb(13, 1))
    tree:add(f.window, tvb(14, 2))
    if is_own then
        tree:add(f.version, tvb(14, 2), bit32.band(tvb(14, 2):uint(), 0xfff)):set_generated()
    end
    tree:add(f.checksum, tvb(16, 2))
    local urgent_item = tree:add(f.urgent, tvb(18, 2))
    tree:add(f.sender_id, tvb(20, 8))
    local id = tvb(20, 8):uint64()
    tree:add(f.rpc, tvb(20, 8), id:band(ALL_BUT_BIT_0)):set_generated()
    local from_client = tvb(27, 1):uint() % 2 == 0
    tree:add(f.from_client, tvb(27, 1), from_client):set_generated()

    local packet_type, doff = tvb(11, 1):uint(), tvb(12, 1):uint()
    if not NAMES[packet_type] then
        type_item:add_proto_expert_info(e.unknown_type)
    end
    local doff_is_right = doff == 0x50
    if packet_type == DATA then
        doff_is_right = doff == 0xe0 or doff == 0xd0
    end
    if not doff_is_right then
        doff_item:add_proto_expert_info(e.doff)
    end
    if tvb(13, 1):uint() ~= FLAGS then
        flags_item:add_proto_expert_info(e.flags)
    end
    if tvb(18, 2):uint() ~= URGENT then
        urgent_item:add_proto_expert_info(e.urgent)
    end
    return from_client
end

local function add_extension(tvb, tree, at)
    tree:add(f.extension_echo, tvb(at, 3))
    tree:add(f.reason, tvb(at + 3, 1))
    tree:add(f.value, tvb(at + 4, 4))
    local reason = tvb(at + 3, 1):uint()
    if reason == 0 then
        return ""
    end
    return ", " .. (REASONS[reason] or "unknown reason")
end

-- One packet. Returns text for the info column.
local function dissect_packet(tvb, root)
    local packet_bytes, captured = tvb:reported_len(), tvb:captured_len()
    local tree = root:add(homa, tvb())
    tree:add(f.packet_bytes, packet_bytes):set_generated()
    if captured < COMMON_BYTES then
        -- Cut, as in the quotation of an ICMP error.
        if captured >= 4 then
            tree:add(f.source_port, tvb(0, 2))
            tree:add(f.destination_port, tvb(2, 2))
        end
        tree:add_proto_expert_info(captured < packet_bytes and e.cut or e.too_short)
        return "(too short)"
    end
    local is_own = bit32.band(tvb(14, 2):uint(), 0xf000) == MAGIC
    local from_client = add_common(tvb, tree, is_own)
    local packet_type = tvb(11, 1):uint()
    local name = NAMES[packet_type]
    if not name then
        return string.format("unknown type 0x%02x", packet_type)
    end
    local id = tvb(20, 8):uint64():band(ALL_BUT_BIT_0)
    local text = string.format("%d -> %d %s rpc %s", tvb(0, 2):uint(), tvb(2, 2):uint(), name,
        tostring(id))
    tree:append_text(", " .. name .. ", rpc " .. tostring(id))
    local header_bytes = HEADER_BYTES[packet_type]
    if packet_bytes < header_bytes then
        tree:add_proto_expert_info(e.too_short)
        return text .. " (too short)"
    end
    if captured < header_bytes then
        tree:add_proto_expert_info(e.cut)
        return text .. " (cut)"
    end
    local body = bodies[packet_type]
    if body then
        text = text .. " " .. body(tvb, tree, from_client, packet_bytes, is_own)
    end
    local is_our_version = tvb(14, 2):uint() == MAGIC + VERSION
    if is_our_version and packet_type ~= DATA and captured >= header_bytes + EXTENSION_BYTES then
        text = text .. add_extension(tvb, tree, header_bytes)
    end
    return text
end

function homa.dissector(tvb, pinfo, root)
    pinfo.cols.protocol = "Homa"
    pinfo.cols.info = dissect_packet(tvb, root)
    return tvb:captured_len()
end

-- Whether a packet of the Rust implementation begins at `at` (from 0) of the string.
local function is_native_form(raw, at)
    local packet_type, window = raw:byte(at + 12), raw:byte(at + 15)
    local urgent_high, urgent_low = raw:byte(at + 19, at + 20)
    return urgent_low ~= nil and NAMES[packet_type] ~= nil and bit32.rshift(window, 4) == 0xa
        and urgent_high == 0xb9 and urgent_low == 0x7d
end

-- The length of the segments of a train that was recorded before the kernel cut it, or after it joined it:
-- the smallest distance at which headers with the same ports follow each other to the end.
local function segment_bytes(raw)
    local at = COMMON_BYTES
    while true do
        local found = raw:find("\xb9\x7d", at + 19, true)
        if not found then
            return #raw
        end
        local length = found - 19
        local matches = true
        for start = length, #raw - 1, length do
            if not is_native_form(raw, start) or raw:sub(start + 1, start + 4) ~= raw:sub(1, 4) then
                matches = false
                break
            end
        end
        if matches then
            return length
        end
        at = length + 1
    end
end

-- Where the packet that begins at `start` (from 0) ends in a datagram that ends at `stop`: another may follow the
-- end of a message, or a control packet with its extension.
local function packet_end(raw, start, stop)
    local function uint(at, bytes)
        local value = 0
        for index = at + 1, at + bytes do
            value = value * 256 + (raw:byte(start + index) or 0)
        end
        return value
    end
    local packet_type = uint(11, 1)
    if uint(14, 2) ~= MAGIC + VERSION or not HEADER_BYTES[packet_type] then
        return stop
    end
    if packet_type ~= DATA then
        return math.min(stop, start + HEADER_BYTES[packet_type] + EXTENSION_BYTES)
    end
    local message_length, offset = uint(28, 4), uint(52, 4)
    if offset > message_length then
        return stop
    end
    return math.min(stop, start + HEADER_BYTES[DATA] + message_length - offset)
end

local function dissect_datagram(tvb, pinfo, root)
    if tvb:captured_len() < 20 then
        return false
    end
    local raw = tvb:range():raw()
    if not is_native_form(raw, 0) then
        return false
    end
    pinfo.cols.protocol = "Homa"
    local length = segment_bytes(raw)
    local texts = {}
    for first = 0, #raw - 1, length do
        local start, stop = first, math.min(first + length, #raw)
        repeat
            local last = packet_end(raw, start, stop)
            -- A packet at the end of what was recorded may go on.
            local packet = last == #raw and tvb(start) or tvb(start, last - start)
            texts[#texts + 1] = dissect_packet(packet:tvb(), root)
            start = last
        -- Behind a packet are zeros or another one.
        until start >= stop or not is_native_form(raw, start)
    end
    pinfo.cols.info = texts[1]
    if #texts > 1 then
        pinfo.cols.info = string.format("[%d] %s", #texts, table.concat(texts, "; "))
    end
    return true
end

local protocols = DissectorTable.get("ip.proto")
protocols:add(IP_PROTOCOL_HOMA, homa)

local tcp = protocols:get_dissector(IP_PROTOCOL_TCP)
local homa_in_tcp = Proto("homa_tcp", "Homa in TCP frames")

function homa_in_tcp.dissector(tvb, pinfo, root)
    local is_homa = tvb:captured_len() >= 20 and tvb(13, 1):uint() == FLAGS
        and tvb(18, 2):uint() == URGENT
    if is_homa then
        return homa.dissector(tvb, pinfo, root)
    end
    return tcp:call(tvb, pinfo, root)
end

protocols:set(IP_PROTOCOL_TCP, homa_in_tcp)

homa:register_heuristic("udp", dissect_datagram)
DissectorTable.get("udp.port"):add_for_decode_as(homa)
