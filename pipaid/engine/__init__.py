"""Floor 2: decisions; synchronous and deterministic."""
