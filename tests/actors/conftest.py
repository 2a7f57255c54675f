"""What tests of actors may ask for: what was logged, as values."""

from __future__ import annotations

from collections.abc import Generator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture
def logged() -> Generator[list[MutableMapping[str, Any]]]:
    """Return what is logged during the test; nothing of it is formatted, which is slow for tracebacks."""
    with capture_logs() as entries:
        yield entries
