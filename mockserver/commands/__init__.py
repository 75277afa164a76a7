"""The commands of `mockserver`, by what they are about."""
