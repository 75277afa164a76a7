"""The report of a hunt, on the terminal and in files."""
