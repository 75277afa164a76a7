"""Pictures: clients' are measured, predictions' are drawn. Pillow is imported on first use."""
