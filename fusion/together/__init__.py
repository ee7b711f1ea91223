"""The stations of a region together: their windows meet, fill one another, and are learned from. Pure."""
