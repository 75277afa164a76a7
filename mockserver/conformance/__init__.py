"""The gateway's side: the real gateway held against the contract."""
