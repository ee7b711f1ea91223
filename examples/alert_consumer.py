"""Act on skyfuse alerts, each event exactly once: `pip install kafka-python`, then

    python alert_consumer.py BOOTSTRAP [TOPIC]

The position is Kafka's (a consumer group), and what was handled is remembered in handled.sqlite under the
event's id and sequence. Acting and remembering are one transaction, so a crash repeats or skips nothing:
put what you do with an alert into the same database, or make it idempotent by `id` and `sequence`.
"""

import json
import sqlite3
import sys

from kafka import KafkaConsumer


def act(database, alert):
    """Your part. Here: keep the open alerts of every station in a table, and say what changed."""
    if alert["event"] in ("open", "update"):
        row = (alert["id"], alert["station"], alert["severity"], alert["reason"])
        database.execute("INSERT OR REPLACE INTO open_alerts VALUES (?, ?, ?, ?)", row)
    else:  # clear, retract
        database.execute("DELETE FROM open_alerts WHERE id = ?", (alert["id"],))
    database.execute("INSERT INTO log (line) VALUES (?)", (f"{alert['event']} {alert['id']}",))
    print(f"{alert['event']:8}{alert['severity']:10}{alert['station']}: {alert['reason']}", flush=True)


def main(bootstrap, topic="aq.alerts.v1"):
    database = sqlite3.connect("handled.sqlite")
    database.execute("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY, sequence INTEGER)")
    database.execute("CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY, line TEXT)")
    columns = "id TEXT PRIMARY KEY, station TEXT, severity TEXT, reason TEXT"
    database.execute(f"CREATE TABLE IF NOT EXISTS open_alerts ({columns})")
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap.split(","), group_id=f"example-{topic}",
        auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=6_000,
    )  # fmt: skip
    for record in consumer:
        if record.value is None:  # a tombstone: the alert was compacted away
            continue
        alert = json.loads(record.value)
        with database:  # one transaction, committed at the end of the block
            newer = database.execute(
                "INSERT INTO handled VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence"
                " WHERE excluded.sequence > handled.sequence",
                (alert["id"], alert["sequence"]),
            ).rowcount
            if newer:
                act(database, alert)
        consumer.commit()


if __name__ == "__main__":
    main(*sys.argv[1:])
