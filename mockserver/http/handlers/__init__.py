"""What is done for each role of an operation."""
