"""Settings come from the environment, and a name that is none of them is refused."""

from __future__ import annotations

import pytest

from maskmill.shared.errors import InvalidRequest
from maskmill.shared.settings import PREFIX, Settings


@pytest.mark.parametrize("name", ["TEST_DATA", "SHARDSIZE", ""])
def test_a_variable_that_is_no_setting_is_named(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{PREFIX}{name} is not a setting"):
        Settings.from_env({PREFIX + name: "1"})


def test_variables_of_others_are_let_be() -> None:
    assert Settings.from_env({"TEST_DATA_DIR": "/data", "PATH": "/bin"}) == Settings()


def test_a_child_reads_the_settings_that_its_parent_was_given() -> None:
    given = Settings(models=("a", "b"), shard_size=7, s3_secret_key="secret", start_seconds=30)  # type: ignore[arg-type]
    assert Settings.from_env(given.to_env()) == given
