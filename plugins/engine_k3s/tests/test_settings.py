from __future__ import annotations

import pytest
from kairos_engine_k3s.settings import ServerSettings
from pydantic import ValidationError


def test_names_that_no_environment_has_are_refused() -> None:
    with pytest.raises(ValidationError, match="no name for a variable"):
        ServerSettings.checked({"env": {"A-B": "1"}})


def test_values_are_text_and_shown_nowhere() -> None:
    settings = ServerSettings.checked({"env": {"A": 1, "B": True, "C": "hidden"}, "args": ["--token=x9x"]})
    assert [secret.get_secret_value() for secret in settings.env.values()] == ["1", "true", "hidden"]
    assert "hidden" not in repr(settings)
    assert "x9x" not in repr(settings)
