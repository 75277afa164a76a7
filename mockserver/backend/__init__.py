"""State and time, without HTTP: tenants, predictions, the journal, and what becomes of them."""
