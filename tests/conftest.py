"""What every test has: asyncio as the one backend, and property tests without a stop-watch."""

import os

import pytest
from hypothesis import settings

# No test asserts a speed, so no example has a deadline; CI runs the same examples every time.
settings.register_profile("s3engine", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("s3engine")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
