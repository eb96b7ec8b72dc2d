"""What every test has: asyncio as the one backend."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
