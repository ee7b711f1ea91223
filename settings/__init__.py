"""Settings: what can be set, under which names, what is in force and who says so."""
