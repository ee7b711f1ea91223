"""Scoring a bundle through the worker's own code: at a glance, and in time order with made outages."""
