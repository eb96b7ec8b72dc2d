"""The scene of the integration tests, for the long proofs."""

from tests.integration.conftest import scene

__all__ = ["scene"]
