// Pairs of channel and type, then the value, least byte first: the form of Milesight's decoders.
function decodeUplink(input) {
    return { data: decode(input.bytes) };
}

function Decode(fPort, bytes) {
    return decode(bytes);
}

function decode(bytes) {
    var decoded = {};
    for (var i = 0; i < bytes.length; ) {
        var channel = bytes[i++];
        var type = bytes[i++];
        if (channel === 0x01 && type === 0x75) {
            decoded.battery = bytes[i];
            i += 1;
        } else if (channel === 0x03 && type === 0x67) {
            decoded.temperature = int16(bytes, i) / 10;
            i += 2;
        } else if (channel === 0x04 && type === 0x68) {
            decoded.humidity = bytes[i] / 2;
            i += 1;
        } else if (channel === 0x09 && type === 0x73) {
            decoded.pressure = uint16(bytes, i) / 10;
            i += 2;
        } else if (channel === 0x0b && type === 0x7d) {
            decoded.pm2_5 = uint16(bytes, i);
            i += 2;
        } else if (channel === 0x0c && type === 0x7d) {
            decoded.pm10 = uint16(bytes, i);
            i += 2;
        } else {
            break;
        }
    }
    return decoded;
}

function uint16(bytes, at) {
    return ((bytes[at + 1] << 8) | bytes[at]) & 0xffff;
}

function int16(bytes, at) {
    var value = uint16(bytes, at);
    return value > 0x7fff ? value - 0x10000 : value;
}
