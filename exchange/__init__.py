"""Estimates and alerts in the formats of others: NGSI-LD, SensorThings, OpenAQ, CAP; and their web hooks."""
