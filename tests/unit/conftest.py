"""What holds for every property: no example fails because the machine is busy."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "any machine",
    parent=settings.default,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")
