"""A small city that is not there: true air, sensors that fail, cameras that see as far as the haze allows.

Everything is a pure function of the seed and the event time; only `feed` talks to Kafka, and
`devices` to a gateway.
"""
