"""Whose things are: accounts, which own objects, and the organisations that accounts belong to."""

from __future__ import annotations

from typing import Final

# The account of the daemon's owner: it is there from the start, and what no account asked for is its own.
OWNER: Final = "acct_main"
