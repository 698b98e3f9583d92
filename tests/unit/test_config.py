"""Config: every range is checked, and nothing changes it."""

import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from daemon.config import SERVER_VERSION, Config, ConfigError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    "setting",
    [
        {"engine": "bagpipe"},
        {"log_level": "loud"},
        {"port": 65_536},
        {"num_slots": 0},
        {"threads": 0},
        {"max_sessions": 0},
        {"max_contexts": 0},
        {"max_text_chars": 0},
        {"max_lexicon": 10_001},
        {"max_break_ms": -1},
        {"max_wait_ms": 0},
        {"opus_threads": 0},
        {"retry_after_s": 0},
        {"max_message_bytes": 10},
        {"max_lead_ms": 199},
        {"max_lead_ms": 120_001},
        {"max_buffer_delay_ms": -1},
        {"stall_s": 0.0},
        {"ping_s": 0.0},
        {"grace_s": -1.0},
        {"sine_step_ms": 0},
        {"sine_cost_ms": -1.0},
        {"log_format": "xml"},
        {"agent_port": 70_000},
        {"max_waiting": 0},
        {"max_messages_per_s": 0},
        {"ticket_s": 0},
        {"max_sessions_per_peer": 0},
        {"max_connects_per_min": 0},
        {"stuck_s": 0.0},
        {"start_s": 0.0},
        {"tls_cert": Path("c")},
        {"trusted_proxies": ("10.0.0.300",)},
        {"allowed_origins": ("a.example",)},
        {"voice_aliases": ("theirs",)},
        {"voice_aliases": ("=ours",)},
        {"allowed_origins": ("https://a.example/page",)},
    ],
)
def test_a_wrong_setting_names_itself(setting: dict[str, object]) -> None:
    """An operator must read which setting is wrong, before anything starts."""
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Config(**setting)  # type: ignore[arg-type]


def test_a_config_cannot_change() -> None:
    """Settings that change while sessions run are settings that nobody can state."""
    with pytest.raises(FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


def test_the_version_is_that_of_the_project() -> None:
    """`begin.server` would otherwise tell clients of an old daemon."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == SERVER_VERSION
