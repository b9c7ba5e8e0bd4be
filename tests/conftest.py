"""What holds for all tests: no example of hypothesis fails for being slow, since other processes may be at work."""

from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")
