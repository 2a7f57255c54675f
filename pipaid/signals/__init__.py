"""Floor 1: mathematics over candles."""
