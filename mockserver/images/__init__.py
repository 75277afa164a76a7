"""Pictures: the ones that come in are measured, the ones that go out are drawn. Pillow is imported on first use."""
