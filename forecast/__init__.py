"""What the air of a station will be in the next three days: quantiles for 1 to 72 hours ahead
(docs/forecasts.md).
"""
