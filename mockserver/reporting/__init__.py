"""What the reports of `check` and `verify` share."""
