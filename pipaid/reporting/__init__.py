"""The report of a backtest: one HTML file that people look at, which asks nothing of any network."""
