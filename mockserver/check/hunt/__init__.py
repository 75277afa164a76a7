"""The hunt: plays cases to a client, and confirms, shrinks and replays what breaks a rule."""
