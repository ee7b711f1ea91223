"""Estimates in the formats of others: NGSI-LD, SensorThings, OpenAQ. Plain functions, no I/O."""
