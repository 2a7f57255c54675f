"""The whole daemon in a world made from a seed."""
