"""Rules for clients and receivers: one file for each family of codes."""
