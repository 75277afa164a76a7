"""The cases that are run: fixed, sampled and shrunk ones."""
