"""A request, from the connection to its answer."""
