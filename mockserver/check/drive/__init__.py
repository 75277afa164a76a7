"""How a client is run: a callable, a process for each call, or a worker."""
