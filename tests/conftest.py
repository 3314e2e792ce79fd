"""For all tests: hypothesis tries the same examples every time, and never judges by the clock."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
