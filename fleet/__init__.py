"""How a network's stations fare: whether they send, as often as they should, by right clocks. Pure."""
