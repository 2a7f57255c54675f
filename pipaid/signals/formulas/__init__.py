"""The indicators that are formulas over lines, grouped as the signals are that ask them."""
