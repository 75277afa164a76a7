"""What is demanded of clients: a file for each family of codes."""
