"""What is legal: the OpenAPI file, read once, and what is wrong with a request by it."""
