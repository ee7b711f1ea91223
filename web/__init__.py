"""What the network shows, to programs (the API) and to people (the page)."""
