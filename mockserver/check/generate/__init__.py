"""Which cases are played: fixed ones, drawn ones, and smaller ones."""
