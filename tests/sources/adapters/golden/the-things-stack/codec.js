/* A version, an id, flags, then the sensors that the flags name: the form of Decentlab's decoders. */
var decoder = {
    SENSORS: [
        { length: 2, values: [
            { name: "pm2_5_mass_concentration", displayName: "PM2.5 mass concentration",
              convert: function (x) { return x[0] / 10; }, unit: "µg⋅m⁻³" },
            { name: "air_humidity", displayName: "Air humidity",
              convert: function (x) { return x[1]; }, unit: "%" }] },
        { length: 1, values: [
            { name: "battery_voltage", displayName: "Battery voltage",
              convert: function (x) { return x[0] / 1000; }, unit: "V" }] }
    ],
    word: function (bytes, at) {
        return (bytes[at] << 8) + bytes[at + 1];
    },
    decode: function (bytes) {
        if (bytes[0] !== 2) {
            return { error: "protocol version " + bytes[0] + " doesn't match v2" };
        }
        var result = { protocol_version: 2, device_id: this.word(bytes, 1) };
        var flags = this.word(bytes, 3);
        var at = 5;
        for (var i = 0; i < this.SENSORS.length; i++, flags >>= 1) {
            if ((flags & 1) !== 1) { continue; }
            var sensor = this.SENSORS[i];
            var x = [];
            for (var j = 0; j < sensor.length; j++, at += 2) { x.push(this.word(bytes, at)); }
            sensor.values.forEach(function (value) {
                result[value.name] = {
                    displayName: value.displayName, value: value.convert(x), unit: value.unit
                };
            });
        }
        return result;
    }
};

function decodeUplink(input) {
    var data = decoder.decode(input.bytes);
    if (data.error) { return { errors: [data.error] }; }
    return { data: data, warnings: input.bytes.length > 40 ? ["more bytes than known"] : [] };
}

if (typeof module !== "undefined") { module.exports = { decodeUplink: decodeUplink }; }
console.log("loaded");
