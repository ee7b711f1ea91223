"""Where frames and readings come from: stations' own payloads, a folder replayed, a city simulated."""
