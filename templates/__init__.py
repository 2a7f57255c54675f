"""Trading opinions; each imports pipaid.sdk only."""
