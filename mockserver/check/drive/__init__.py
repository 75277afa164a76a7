"""Drivers, which run a client: a callable, a process for each call, or a worker process."""
