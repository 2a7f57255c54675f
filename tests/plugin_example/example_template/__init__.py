"""A template of somebody else's: it knows nothing of pipaid but the sdk."""
