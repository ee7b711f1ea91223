"""The camera as an instrument: a frame's bytes, its haze, a verdict on it, and what a camera learns. Pure."""
