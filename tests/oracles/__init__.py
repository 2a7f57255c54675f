"""Backtests held against engines that others wrote."""
