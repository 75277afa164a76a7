"""The kit: plays what the contract allows to a client, and finds the smallest case that breaks it."""
