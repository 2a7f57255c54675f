"""Sweeps over params: sets to try, whoever plays them, and what each is worth where it was not chosen."""
