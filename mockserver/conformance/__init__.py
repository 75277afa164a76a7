"""Holds the real gateway to the contract: `verify`, `proxy` and learning."""
