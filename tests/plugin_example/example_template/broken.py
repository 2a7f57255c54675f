"""What a plug-in may do at worst while it is imported."""

from __future__ import annotations

raise SystemExit("this template leaves when it is looked at")
