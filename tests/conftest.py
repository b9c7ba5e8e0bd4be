"""What holds for all tests: no example of hypothesis fails for being slow, since other processes may be at work."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `pytest -m real`, see test_real.py."""
    parser.addoption("--checkpoint", help="a folder or a name: compare this checkpoint with transformers")
    parser.addoption("--certificate", help="a file to write what was compared to")
