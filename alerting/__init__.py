"""Alerts as a pure state machine in event time. No I/O, no clock: estimates and watermarks in, events out."""
