"""The scene of the integration tests, for acceptance."""

from tests.integration.conftest import scene

__all__ = ["scene"]
