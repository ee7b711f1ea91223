PRAGMA application_id = 1399552326;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE daily (           -- civil days of windows that have left
    station  TEXT NOT NULL,
    stop     INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    body     TEXT NOT NULL,
    counted  BLOB NOT NULL,    -- which windows, by end and revision
    hours    INTEGER NOT NULL, -- whether its hours are still there
    missed   INTEGER NOT NULL, -- of how many of them a newer revision came, which is not counted
    PRIMARY KEY (station, stop)
) WITHOUT ROWID;
INSERT INTO "daily" VALUES('b',1766793600000,1766707200000,'{"n":3,"r":5,"l":["us-epa-2024",1766707380000],"p":{"o3":[180000,5445000000000,30.25,30.25,0,0,3,180000],"pm25":[180000,2250000000000,11.5,13.5,3,0,0,0]},"i":{"us-epa-2024":[180000,7560000,41,43,43,1766707380000,3,3,180000,0]}}',X'789C8B3634373333373037323300029D68031D08034CC6EA441BE918EA18C5C60200A5D9087C',0,0);
INSERT INTO "daily" VALUES('b',1767139200000,1767052800000,'{"n":3,"r":5,"l":["us-epa-2024",1767052980000],"p":{"o3":[180000,5445000000000,30.25,30.25,0,0,3,180000],"pm25":[180000,2250000000000,11.5,13.5,3,0,0,0]},"i":{"us-epa-2024":[180000,7560000,41,43,43,1767052980000,3,3,180000,0]}}',X'789C8B36343733373035B2303300029D68031D08034CC6EA44EB9AEB18EA18C5C60200AE2D08AE',1,1);
CREATE TABLE due (             -- periods whose aggregates are older than their windows
    kind    TEXT NOT NULL,
    station TEXT NOT NULL,
    start   INTEGER NOT NULL,  -- ms
    stop    INTEGER NOT NULL,
    PRIMARY KEY (kind, station, start, stop)
);
INSERT INTO "due" VALUES('hourly','a',1767225600000,1767229200000);
INSERT INTO "due" VALUES('daily','a',1767222000000,1767308400000);
INSERT INTO "due" VALUES('hourly','b',1767225600000,1767229200000);
INSERT INTO "due" VALUES('daily','b',1767225600000,1767312000000);
CREATE TABLE estimate (
    station  TEXT NOT NULL,
    end      INTEGER NOT NULL, -- window end, ms since the epoch
    revision INTEGER NOT NULL,
    body     TEXT NOT NULL,    -- the estimate, JSON
    PRIMARY KEY (station, end)
);
INSERT INTO "estimate" VALUES('a',1767225660000,2,'{"station":"a","window":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z"},"revision":2,"amended":0,"sides":"both","pollutants":{"pm25":{"value":50.0,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":50.0,"n":3,"since":null,"covered_s":null,"sensors":["main"],"refused":{}},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"since":null,"covered_s":null,"sensors":[],"refused":{}}},"missing":{},"model":null,"indices":[{"standard":"us-epa-2024","index":50,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"nowcast_reason":"","subindices":{"pm25":50}}],"inputs":{"readings":2,"frames":[],"standing":0,"humidity":51.0,"withheld":{}},"bundle":"bundle-1"}');
INSERT INTO "estimate" VALUES('b',1767225660000,1,'{"station":"b","window":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z"},"revision":1,"amended":0,"sides":"both","pollutants":{"pm25":{"value":33.25,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":33.25,"n":3,"since":null,"covered_s":null,"sensors":["main"],"refused":{}},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"since":null,"covered_s":null,"sensors":[],"refused":{}}},"missing":{},"model":null,"indices":[{"standard":"us-epa-2024","index":33,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"nowcast_reason":"","subindices":{"pm25":33}}],"inputs":{"readings":1,"frames":[],"standing":0,"humidity":51.0,"withheld":{}},"bundle":"bundle-1"}');
INSERT INTO "estimate" VALUES('a',1767225720000,2,'{"station":"a","window":{"start":"2026-01-01T00:01:00Z","end":"2026-01-01T00:02:00Z"},"revision":2,"amended":0,"sides":"both","pollutants":{"pm25":{"value":51.0,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":51.0,"n":3,"since":null,"covered_s":null,"sensors":["main"],"refused":{}},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"since":null,"covered_s":null,"sensors":[],"refused":{}}},"missing":{},"model":null,"indices":[{"standard":"us-epa-2024","index":51,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"nowcast_reason":"","subindices":{"pm25":51}}],"inputs":{"readings":2,"frames":[],"standing":0,"humidity":51.0,"withheld":{}},"bundle":"bundle-1"}');
INSERT INTO "estimate" VALUES('a',1767225780000,2,'{"station":"a","window":{"start":"2026-01-01T00:02:00Z","end":"2026-01-01T00:03:00Z"},"revision":2,"amended":0,"sides":"both","pollutants":{"pm25":{"value":52.0,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":52.0,"n":3,"since":null,"covered_s":null,"sensors":["main"],"refused":{}},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"since":null,"covered_s":null,"sensors":[],"refused":{}}},"missing":{},"model":null,"indices":[{"standard":"us-epa-2024","index":52,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"nowcast_reason":"","subindices":{"pm25":52}}],"inputs":{"readings":2,"frames":[],"standing":0,"humidity":51.0,"withheld":{}},"bundle":"bundle-1"}');
CREATE TABLE hourly (          -- hours of windows that have left
    station  TEXT NOT NULL,
    stop     INTEGER NOT NULL, -- end of the hour, ms
    body     TEXT NOT NULL,    -- their tally, JSON
    PRIMARY KEY (station, stop)
) WITHOUT ROWID;
INSERT INTO "hourly" VALUES('b',1767056400000,'{"n":3,"r":5,"l":["us-epa-2024",1767052980000],"p":{"o3":[180000,5445000000000,30.25,30.25,0,0,3,180000],"pm25":[180000,2250000000000,11.5,13.5,3,0,0,0]},"i":{"us-epa-2024":[180000,7560000,41,43,43,1767052980000,3,3,180000,0]}}');
CREATE TABLE late (            -- windows that came when their time was over
    station  TEXT NOT NULL,
    end      INTEGER NOT NULL,
    until    INTEGER NOT NULL, -- how far event time goes until they leave, ms
    PRIMARY KEY (station, end)
) WITHOUT ROWID;
CREATE TABLE station (
    station TEXT PRIMARY KEY,
    body    TEXT NOT NULL      -- the station record, JSON
);
INSERT INTO "station" VALUES('a','{"station":"a","name":"A","city":"","latitude":1.5,"longitude":null,"timezone":"Europe/Rome","kind":"low-cost","standards":["us-epa-2024"],"cameras":[],"sensors":[]}');
CREATE TABLE withdrawn (       -- standards that an earlier revision had and the kept one has not
    station  TEXT NOT NULL,
    end      INTEGER NOT NULL,
    standard TEXT NOT NULL,
    PRIMARY KEY (station, end, standard)
) WITHOUT ROWID;
CREATE INDEX estimate_by_end ON estimate (end);
CREATE INDEX hourly_by_stop ON hourly (stop);
CREATE INDEX daily_by_stop ON daily (hours, stop);
CREATE VIEW aq AS
WITH parameter(parameter) AS (VALUES ('pm25'),('pm10'),('no2'),('so2'),('co'),('o3'))
SELECT e.station, p.parameter, e.end / 1000 AS time,
    j.value ->> 'value' AS value, coalesce(j.value ->> 'kind', 'missing') AS kind,
    coalesce(j.value ->> 'qc', m.value ->> 'qc', 9) AS qc,
    coalesce(j.value ->> 'qc_tests', m.value ->> 'qc_tests', 0) AS qc_tests,
    j.value ->> 'lo' AS lo, j.value ->> 'hi' AS hi, j.value ->> 'method' AS method,
    coalesce(j.value ->> 'raw', m.value ->> 'raw') AS raw,
    coalesce(j.value ->> 'n', m.value ->> 'n', 0) AS n,
    (SELECT group_concat(r.key || ' ' || r.value, char(59, 32))
        FROM json_each(coalesce(j.value, m.value), '$.refused') r) AS refused,
    e.revision, e.body ->> 'bundle' AS bundle
FROM estimate e CROSS JOIN parameter p
LEFT JOIN json_each(e.body, '$.pollutants') j ON j.key = p.parameter
LEFT JOIN json_each(e.body, '$.missing') m ON m.key = p.parameter;
CREATE VIEW aqi AS
SELECT e.station, j.value ->> 'standard' AS standard, e.end / 1000 AS time,
    j.value ->> 'index' AS "index", j.value ->> 'category' AS category, j.value ->> 'level' AS level,
    (SELECT group_concat(d.value, ',') FROM json_each(j.value, '$.dominant') d) AS dominant,
    j.value ->> 'status' AS status, j.value ->> 'reason' AS reason,
    j.value ->> 'imputed_share' AS imputed_share, j.value ->> 'lo' AS lo, j.value ->> 'hi' AS hi,
    j.value ->> 'nowcast' AS nowcast, j.value ->> 'nowcast_lo' AS nowcast_lo,
    j.value ->> 'nowcast_hi' AS nowcast_hi,
    j.value ->> '$.subindices.pm25' AS sub_pm25, j.value ->> '$.subindices.pm10' AS sub_pm10, j.value ->> '$.subindices.no2' AS sub_no2, j.value ->> '$.subindices.so2' AS sub_so2, j.value ->> '$.subindices.co' AS sub_co, j.value ->> '$.subindices.o3' AS sub_o3,
    j.key = 0 AS leading, e.revision, e.body ->> 'bundle' AS bundle
FROM estimate e, json_each(e.body, '$.indices') j;
CREATE VIEW station_state AS
SELECT e.station, e.end / 1000 AS time, e.body ->> 'sides' AS sides,
    e.body ->> '$.inputs.readings' AS readings, json_array_length(e.body, '$.inputs.frames') AS frames,
    (SELECT count(*) FROM json_each(e.body, '$.inputs.frames') f WHERE f.value ->> 'usable') AS frames_used,
    e.body ->> '$.inputs.humidity' AS humidity,
    (SELECT count(*) FROM json_each(e.body, '$.pollutants') p WHERE p.value ->> 'kind' = 'measured') AS measured, (SELECT count(*) FROM json_each(e.body, '$.pollutants') p WHERE p.value ->> 'kind' = 'corrected') AS corrected, (SELECT count(*) FROM json_each(e.body, '$.pollutants') p WHERE p.value ->> 'kind' = 'imputed') AS imputed,
    6 - (SELECT count(*) FROM json_each(e.body, '$.pollutants')) AS missing,
    e.body ->> '$.model.aqi' AS model_aqi, e.body ->> '$.model.lo' AS model_lo,
    e.body ->> '$.model.hi' AS model_hi, e.revision, e.body ->> 'bundle' AS bundle
FROM estimate e;
CREATE VIEW aq_hourly AS
WITH parameter(parameter) AS (VALUES ('pm25'),('pm10'),('no2'),('so2'),('co'),('o3'))
SELECT h.station, p.parameter, h.stop / 1000 AS time,
    (j.value ->> 1) / 1e6 / (j.value ->> 0) AS mean, j.value ->> 2 AS min, j.value ->> 3 AS max,
    coalesce((j.value ->> 4) + (j.value ->> 5) + (j.value ->> 6), 0) AS windows,
    coalesce(j.value ->> 4, 0) AS measured, coalesce(j.value ->> 5, 0) AS corrected,
    coalesce(j.value ->> 6, 0) AS imputed,
    coalesce(1.0 * (j.value ->> 7) / (j.value ->> 0), 0.0) AS imputed_share,
    coalesce(1.0 * (j.value ->> 0) / (h.stop - (h.stop - 3600000)), 0.0) AS coverage, h.body ->> 'r' AS revision
FROM hourly h CROSS JOIN parameter p LEFT JOIN json_each(h.body, '$.p') j ON j.key = p.parameter;
CREATE VIEW aqi_hourly AS
SELECT h.station, j.key AS standard, h.stop / 1000 AS time,
    1.0 * (j.value ->> 1) / (j.value ->> 0) AS mean, j.value ->> 2 AS min, j.value ->> 3 AS max,
    j.value ->> 4 AS last, j.value ->> 6 AS windows, j.value ->> 7 AS valid,
    coalesce((j.value ->> 9) / 1e6 / (j.value ->> 8), 0.0) AS imputed_share,
    1.0 * (j.value ->> 0) / (h.stop - (h.stop - 3600000)) AS coverage, h.body ->> 'r' AS revision
FROM hourly h, json_each(h.body, '$.i') j;
CREATE VIEW aq_daily AS
WITH parameter(parameter) AS (VALUES ('pm25'),('pm10'),('no2'),('so2'),('co'),('o3'))
SELECT h.station, p.parameter, h.stop / 1000 AS time,
    (j.value ->> 1) / 1e6 / (j.value ->> 0) AS mean, j.value ->> 2 AS min, j.value ->> 3 AS max,
    coalesce((j.value ->> 4) + (j.value ->> 5) + (j.value ->> 6), 0) AS windows,
    coalesce(j.value ->> 4, 0) AS measured, coalesce(j.value ->> 5, 0) AS corrected,
    coalesce(j.value ->> 6, 0) AS imputed,
    coalesce(1.0 * (j.value ->> 7) / (j.value ->> 0), 0.0) AS imputed_share,
    coalesce(1.0 * (j.value ->> 0) / (h.stop - h.start), 0.0) AS coverage, h.body ->> 'r' AS revision
FROM daily h CROSS JOIN parameter p LEFT JOIN json_each(h.body, '$.p') j ON j.key = p.parameter;
CREATE VIEW aqi_daily AS
SELECT h.station, j.key AS standard, h.stop / 1000 AS time,
    1.0 * (j.value ->> 1) / (j.value ->> 0) AS mean, j.value ->> 2 AS min, j.value ->> 3 AS max,
    j.value ->> 4 AS last, j.value ->> 6 AS windows, j.value ->> 7 AS valid,
    coalesce((j.value ->> 9) / 1e6 / (j.value ->> 8), 0.0) AS imputed_share,
    1.0 * (j.value ->> 0) / (h.stop - h.start) AS coverage, h.body ->> 'r' AS revision
FROM daily h, json_each(h.body, '$.i') j;
COMMIT;
