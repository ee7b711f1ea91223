"""Send one reading of the present to skyfuse, as a station would.

    python send_reading.py BOOTSTRAP STATION PARAMETER VALUE [UNIT]

`skyfuse up` prints BOOTSTRAP (host:port of its Kafka). Needs kafka-python, and nothing of skyfuse.
"""

import json
import sys
from datetime import UTC, datetime

from kafka import KafkaProducer


def main(bootstrap, station, parameter, value, unit="ug/m3", topic="aq.readings.v1"):
    reading = {
        "station": station,
        "observed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "values": [{"parameter": parameter, "value": float(value), "unit": unit}],
    }
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all")
    try:
        # The key decides the partition: everything of a station lies on one.
        producer.send(topic, key=station.encode(), value=json.dumps(reading).encode()).get(timeout=30)
    finally:
        producer.close()
    print(f"sent {json.dumps(reading)} to {topic}")


if __name__ == "__main__":
    if not 5 <= len(sys.argv) <= 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
