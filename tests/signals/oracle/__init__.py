"""What signals should say, worked out from their definitions with nothing of the product's."""
