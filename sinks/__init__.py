"""Where estimates end: the local SQLite store and InfluxDB, both with the same points."""
