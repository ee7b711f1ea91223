"""Made histories of stations, like those that were measured, and how like they are."""
