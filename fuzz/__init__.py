"""Programs that feed hostile bytes for hours; `make fuzz` runs them."""
