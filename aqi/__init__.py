"""Air-quality science: standards, averaging, NowCast, quality control, corrections. Pure functions."""
