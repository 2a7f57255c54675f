"""Floor 0: what things are; frozen nouns without I/O."""
