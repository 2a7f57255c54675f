"""Every signal by name: what it takes, and the condition that it is."""
