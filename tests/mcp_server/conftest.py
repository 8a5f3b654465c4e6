"""The workspace, the fake model and the running service of the service's tests."""

from tests.serving.conftest import command, control, photograph, promote, registry, settings, start

__all__ = ["command", "control", "photograph", "promote", "registry", "settings", "start"]
