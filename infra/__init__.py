"""Settings, the local stack, sources and the command line."""
