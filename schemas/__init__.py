"""Records that travel on skyfuse's topics: strict pydantic models, no settings, no I/O."""
