"""One daemon that hosts trading strategies as supervised actors."""

__version__ = "0.1.0"
