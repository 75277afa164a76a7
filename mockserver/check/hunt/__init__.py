"""The hunt: cases are played, and what is broken is confirmed, shrunk and replayed."""
