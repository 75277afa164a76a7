"""Steering a double: the admin API, the inspector, and what is exported."""
