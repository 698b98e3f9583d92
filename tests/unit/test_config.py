"""Config: the command line and the checks, without starting anything."""

import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from daemon.config import SERVER_VERSION, Config, ConfigError, parse_arguments

ROOT = Path(__file__).resolve().parent.parent.parent


def test_no_argument_gives_the_defaults() -> None:
    """Defaults that are written twice drift apart."""
    assert parse_arguments([]) == Config()


def test_every_setting_has_an_option() -> None:
    """A setting that only tests can reach is no setting."""
    argv = [
        *("--host", "::1", "--port", "0", "--port-file", "p", "--engine", "sine", "--model", "m"),
        *("--slots", "3", "--threads", "2", "--deterministic", "--sine-step-ms", "40"),
        *("--sine-cost-ms", "1.5", "--max-sessions", "2", "--max-contexts", "3"),
        *("--max-text-chars", "99", "--max-message-bytes", "2048", "--max-wait-ms", "10"),
        *("--max-lead-ms", "500", "--max-buffer-delay-ms", "0", "--stall-s", "1"),
        *("--ping-s", "2", "--grace-s", "0", "--retry-after-s", "9", "--opus-threads", "1"),
        *("--log-level", "debug"),
    ]
    config = parse_arguments(argv)
    default = Config()
    unchanged = [
        f.name for f in fields(Config) if getattr(config, f.name) == getattr(default, f.name)
    ]
    assert unchanged == []
    assert config.port_file == Path("p")
    assert config.num_slots == 3


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
    ],
)
def test_a_wrong_setting_names_itself(setting: dict[str, object]) -> None:
    """An operator must read which setting is wrong, before anything starts."""
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Config(**setting)  # type: ignore[arg-type]


def test_a_wrong_argument_ends_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is no answer to a typing error."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--max-lead-ms", "1"])
    assert ended.value.code == 2
    assert "max_lead_ms must lie between" in capsys.readouterr().err


def test_a_config_cannot_change() -> None:
    """Settings that change while sessions run are settings that nobody can state."""
    with pytest.raises(FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


def test_the_version_is_that_of_the_project() -> None:
    """`begin.server` would otherwise tell clients of an old daemon."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == SERVER_VERSION
