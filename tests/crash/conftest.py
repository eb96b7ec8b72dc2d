"""The scene of the integration tests, for processes that die."""

from tests.integration.conftest import scene

__all__ = ["scene"]
