"""Clients of the HTTP API and of the event stream for scripts: one decides, and two of them wait, each in its way."""
