"""Settings of the simulated shop, for the tests that are about it or need its truth."""

from typing import Any

from conftest import make_settings, parse_config
from recsys.settings.run import Settings


def simulated(source_settings: dict[str, Any] = {}, **changes: Any) -> Settings:
    """The section of config.toml with some source settings changed; `changes` as for make_settings."""
    usual = parse_config()["datasets"]["shop"]["source_settings"]
    return make_settings(dataset={"source": "shop", "source_settings": usual | source_settings}, **changes)
