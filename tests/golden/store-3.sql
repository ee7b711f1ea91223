PRAGMA application_id = 1399552326;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
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
INSERT INTO "estimate" VALUES('a',1767225660000,2,'{"station":"a","window":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z"},"revision":2,"sides":"both","pollutants":{"pm25":{"value":50.0,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":50.0,"n":3,"sensors":["main"]},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"sensors":[]}},"model":null,"indices":[{"standard":"us-epa-2024","index":50,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"subindices":{"pm25":50}}],"inputs":{"readings":2,"frames":[],"humidity":51.0},"bundle":"bundle-1"}');
INSERT INTO "estimate" VALUES('a',1767225720000,2,'{"station":"a","window":{"start":"2026-01-01T00:01:00Z","end":"2026-01-01T00:02:00Z"},"revision":2,"sides":"both","pollutants":{"pm25":{"value":51.0,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":51.0,"n":3,"sensors":["main"]},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"sensors":[]}},"model":null,"indices":[{"standard":"us-epa-2024","index":51,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"subindices":{"pm25":51}}],"inputs":{"readings":2,"frames":[],"humidity":51.0},"bundle":"bundle-1"}');
INSERT INTO "estimate" VALUES('a',1767225780000,2,'{"station":"a","window":{"start":"2026-01-01T00:02:00Z","end":"2026-01-01T00:03:00Z"},"revision":2,"sides":"both","pollutants":{"pm25":{"value":52.0,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":52.0,"n":3,"sensors":["main"]},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"sensors":[]}},"model":null,"indices":[{"standard":"us-epa-2024","index":52,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"subindices":{"pm25":52}}],"inputs":{"readings":2,"frames":[],"humidity":51.0},"bundle":"bundle-1"}');
INSERT INTO "estimate" VALUES('b',1767225660000,1,'{"station":"b","window":{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z"},"revision":1,"sides":"both","pollutants":{"pm25":{"value":33.25,"kind":"measured","qc":1,"qc_tests":0,"lo":null,"hi":null,"method":"mean","weights":{},"coverage":null,"raw":33.25,"n":3,"sensors":["main"]},"o3":{"value":40.5,"kind":"imputed","qc":9,"qc_tests":0,"lo":20.0,"hi":70.25,"method":"head","weights":{},"coverage":null,"raw":null,"n":0,"sensors":[]}},"model":null,"indices":[{"standard":"us-epa-2024","index":33,"category":"moderate","level":1,"dominant":["pm25"],"status":"valid","reason":"","imputed_share":0.0,"lo":null,"hi":null,"nowcast":null,"nowcast_lo":null,"nowcast_hi":null,"subindices":{"pm25":33}}],"inputs":{"readings":1,"frames":[],"humidity":51.0},"bundle":"bundle-1"}');
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
COMMIT;
