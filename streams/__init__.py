"""Faust topics, codecs, the event-time join, sinks and dead letters."""
