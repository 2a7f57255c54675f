"""Floor 4: markets, behind one protocol."""
