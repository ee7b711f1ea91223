"""Frames and readings on disk, sent to Kafka as their stations would have sent them, event time kept."""
