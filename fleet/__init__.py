"""How a network's stations fare: heard, as often as they should be, by clocks that are right. Pure."""
