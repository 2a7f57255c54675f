"""Fuzzing: generators that are a pure function of a seed, what must hold for each input, and campaigns."""
