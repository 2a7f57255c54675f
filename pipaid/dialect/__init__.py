"""The dialect of `/api/v1/strategies`: other words, shapes and codes for what the same operations do."""
