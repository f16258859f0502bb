"""For the tests of the core and of all plugins."""

from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("kairos", deadline=None)
settings.load_profile("kairos")
