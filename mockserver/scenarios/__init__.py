"""How the gateway behaves, as data."""
