"""What the clients decide without waiting."""
