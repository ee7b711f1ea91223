"""Where frames and readings come from: what stations, clouds and portals send, as skyfuse's records."""
