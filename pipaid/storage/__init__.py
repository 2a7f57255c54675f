"""Floor 4: memory that survives."""
