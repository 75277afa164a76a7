"""What a hunt tells: on the terminal, and in files."""
