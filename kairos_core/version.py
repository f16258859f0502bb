"""The version of kairos-core, read by the build and by `kairos version`."""

__version__ = "0.1.0"
