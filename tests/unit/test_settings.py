"""Where settings come from: defaults, file, environment, command line, and what each may say."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from daemon.config import Config
from daemon.settings import Settings, all_settings, example, parse_arguments, printed

ROOT = Path(__file__).resolve().parent.parent.parent
CHANGED = {
    int: ("7777", 7777),
    float: ("7.5", 7.5),
    str: ("x", "x"),
    Path: ("p", Path("p")),
    tuple: ("10.0.0.0/8, 192.168.0.0/16", ("10.0.0.0/8", "192.168.0.0/16")),
    bool: ("true", True),
}


def parse(*argv: str, environ: dict[str, str] | None = None) -> Settings:
    return parse_arguments(argv, environ or {})


def config_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "chatterboxd.toml"
    path.write_text(text)
    return str(path)


def changed(name: str) -> tuple[str, object]:
    """A value of the setting that is not its default, as text and as itself."""
    item = next(item for item in all_settings() if item.name == name)
    if item.setting.choices:
        other = next(choice for choice in item.setting.choices if choice != item.default)
        return other, other
    if name == "allowed_origins":
        return "https://a.example", ("https://a.example",)
    if name == "voice_aliases":
        return "theirs=ours", ("theirs=ours",)
    if name == "wyoming":
        return "tcp://127.0.0.1:1", "tcp://127.0.0.1:1"
    return CHANGED[item.kind]


def test_nothing_said_gives_the_defaults() -> None:
    """Defaults that are written twice drift apart."""
    settings = parse()
    assert settings.config == Config()
    assert settings.sources == {}
    assert not settings.print_config


@pytest.mark.parametrize("item", all_settings(), ids=lambda item: item.name)
def test_every_setting_has_an_option_a_variable_and_a_key(item, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A setting that only tests can reach is no setting; each source must read each type."""
    text, value = changed(item.name)
    also = {
        "tls_cert": ["--tls-key", "x"],
        "tls_key": ["--tls-cert", "x"],
        "wyoming_zeroconf": ["--wyoming", "tcp://127.0.0.1:1"],
    }.get(item.name, [])
    argv = [item.option] if item.kind is bool else [item.option, text]
    if not item.setting.is_secret:
        assert getattr(parse(*argv, *also).config, item.name) == value
    assert getattr(parse(*also, environ={item.variable: text}).config, item.name) == value
    in_toml = {
        bool: "true",
        tuple: "[" + ", ".join(f'"{word.strip()}"' for word in text.split(",")) + "]",
        int: text,
        float: text,
    }.get(item.kind, f'"{text}"')
    path = config_file(tmp_path, f"{item.name} = {in_toml}\n")
    assert getattr(parse("--config", path, *also).config, item.name) == value


def test_the_stronger_source_wins(tmp_path: Path) -> None:
    """An operator who overrides a file for one run must not find the file obeyed."""
    path = config_file(tmp_path, "port = 1\ngrace_s = 2\nthreads = 3\nping_s = 4\n")
    environ = {"CHATTERBOXD_PORT": "5", "CHATTERBOXD_GRACE_S": "6", "CHATTERBOXD_CONFIG": path}
    settings = parse("--port", "7", environ=environ)
    config = settings.config
    assert (config.port, config.grace_s, config.threads, config.ping_s) == (7, 6.0, 3, 4.0)
    assert settings.sources == {
        "port": "command line",
        "grace_s": "environment",
        "threads": f"file {path}",
        "ping_s": f"file {path}",
    }


def test_the_command_line_can_take_back_what_a_file_switched_on(tmp_path: Path) -> None:
    """A flag that can only be set leaves no way back but editing the file."""
    path = config_file(tmp_path, "deterministic = true\n")
    assert parse("--config", path).config.deterministic
    assert not parse("--config", path, "--no-deterministic").config.deterministic


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prot = 1", "no setting is called prot; there are host, port"),
        ("[listening]\nport = 1", "no setting is called listening"),
        ('port = "1"', "port must be a whole number, not '1'"),
        ("port = 1.5", "port must be a whole number"),
        ("deterministic = 1", "deterministic must be true or false"),
        ("num_slots = true", "num_slots must be a whole number"),
        ('allowed_origins = "https://a.example"', "allowed_origins must be a list of texts"),
        ("port = 70000", "port must lie between 0 and 65535"),
        ("port = ", "Invalid value"),
    ],
)
def test_a_wrong_file_names_its_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    """A typing error that is ignored is a setting that silently has its default."""
    with pytest.raises(SystemExit) as ended:
        parse("--config", config_file(tmp_path, text))
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"CHATTERBOXD_PROT": "1"}, "is called CHATTERBOXD_PROT; there are CHATTERBOXD_CONFIG"),
        ({"CHATTERBOXD_PORT": "one"}, "CHATTERBOXD_PORT must be a whole number"),
        ({"CHATTERBOXD_DETERMINISTIC": "si"}, "CHATTERBOXD_DETERMINISTIC must be true or false"),
        ({"CHATTERBOXD_CONFIG": "/nowhere/x.toml"}, "No such file"),
        ({"CHATTERBOXD_MAX_LEAD_MS": "1"}, "max_lead_ms must lie between"),
    ],
)
def test_a_wrong_environment_names_its_mistake(
    capsys: pytest.CaptureFixture[str], environ: dict[str, str], complaint: str
) -> None:
    """The same for variables: a misspelt one must not look as if it worked."""
    with pytest.raises(SystemExit) as ended:
        parse(environ=environ)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_wrong_argument_ends_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is no answer to a typing error."""
    with pytest.raises(SystemExit) as ended:
        parse("--max-lead-ms", "1")
    assert ended.value.code == 2
    assert "max_lead_ms must lie between" in capsys.readouterr().err


def test_secrets_are_neither_options_nor_printed() -> None:
    """Every user of a machine reads command lines, and configurations end in bug reports."""
    settings = parse(environ={"CHATTERBOXD_TOKENS": "agent=s3cret-s3cret-s3cret"})
    assert settings.config.tokens == ("agent=s3cret-s3cret-s3cret",)
    assert "s3cret" not in printed(settings)
    with pytest.raises(SystemExit):
        parse("--tokens", "agent=x")


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    """A printed configuration is how one machine's settings get to the next."""
    argv = ["--host", "::1", "--deterministic", "--trusted-proxies", "10.0.0.0/8,::1/128"]
    settings = parse(*argv, "--print-config", environ={"CHATTERBOXD_STALL_S": "1.5"})
    assert settings.print_config
    text = printed(settings)
    assert 'host = "::1"  # command line' in text
    assert "stall_s = 1.5  # environment" in text
    assert "port = 8765  # default" in text
    assert parse("--config", config_file(tmp_path, text)).config == settings.config


def test_the_example_documents_every_setting() -> None:
    """`python -m daemon.settings > systemd/chatterboxd.toml.example` after each change."""
    text = (ROOT / "systemd" / "chatterboxd.toml.example").read_text()
    assert text == example()
    assert not tomllib.loads(text), "as it is, it changes nothing"
    settings = [line[2:] for line in text.splitlines() if " = " in line]
    uncommented = tomllib.loads("\n".join(settings))
    assert list(uncommented) == [item.name for item in fields(Config)]
    for item in all_settings():
        if item.default is not None:
            value = uncommented[item.name]
            assert (tuple(value) if item.kind is tuple else value) == item.default
