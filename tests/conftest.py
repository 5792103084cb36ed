"""What all tests share."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of asynchronous tests; the servers run on this one too."""
    return "asyncio"
