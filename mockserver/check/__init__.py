"""The kit: plays what the contract allows to a client, and finds the smallest failing cases."""
