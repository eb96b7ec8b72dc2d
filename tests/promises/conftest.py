"""The scenes of the integration and command tests."""

from tests.cli.conftest import cli
from tests.integration.conftest import scene

__all__ = ["cli", "scene"]
