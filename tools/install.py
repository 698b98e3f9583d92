"""A checkout in; the files of an installation, its units and a first configuration out, and back.

    python3 tools/install.py install|uninstall [--prefix /opt/chatterboxd] [--destdir FOLDER]

Standard library only. The environment is not its business (`make install` makes it), nor are
settings and voices that exist: uninstalling leaves /etc/chatterboxd and the StateDirectory alone.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_PREFIX = "/opt/chatterboxd"
"""What the units in systemd/ say."""
UNITS = ("chatterboxd.service", "chatterboxd@.service", "chatterboxd.socket")
NEEDED = (
    "daemon",
    "chatterbox",
    "web_client",
    "docs",
    "systemd",
    "deploy",
    "requirements",
    "tools",
)
NEEDED_FILES = ("README.md", "LICENSE", "NOTICE", "SECURITY.md", "CHANGELOG.md", "pyproject.toml")
NOT_NEEDED = ("chatterbox/training",)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def wanted() -> list[str]:
    """What git tracks of the folders that run; without git, what lies there."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", *NEEDED, *NEEDED_FILES],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        names = [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    else:
        found = [path for folder in NEEDED for path in (ROOT / folder).rglob("*")]
        found += [ROOT / name for name in NEEDED_FILES]
        names = [str(path.relative_to(ROOT)) for path in found if path.is_file()]
    return [
        name
        for name in names
        if not name.startswith(NOT_NEEDED) and "__pycache__" not in Path(name).parts
    ]


def install(prefix: str, destdir: Path) -> None:
    target = destdir / prefix.lstrip("/")
    for folder in NEEDED:  # a file that has died must not live on
        shutil.rmtree(target / folder, ignore_errors=True)
    names = wanted()
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    say(f"{len(names)} files in {target}")
    units = destdir / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    for unit in UNITS:
        text = (ROOT / "systemd" / unit).read_text().replace(DEFAULT_PREFIX, prefix)
        (units / unit).write_text(text)
    say(f"{', '.join(UNITS)} in {units}")
    settings = destdir / "etc/chatterboxd/chatterboxd.toml"
    if settings.exists():
        say(f"{settings} is as it was")
        return
    settings.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "systemd/chatterboxd.toml.example", settings)
    say(f"{settings}: every setting, all at their defaults")


def uninstall(prefix: str, destdir: Path) -> None:
    for unit in UNITS:
        (destdir / "etc/systemd/system" / unit).unlink(missing_ok=True)
    target = destdir / prefix.lstrip("/")
    if target.exists() and not (target / "daemon" / "__main__.py").exists():
        sys.exit(f"{target} does not look like chatterboxd: nothing was removed there")
    shutil.rmtree(target, ignore_errors=True)
    say(f"{target} and its units are gone; /etc/chatterboxd and /var/lib/chatterboxd are left")


def main() -> None:
    parser = argparse.ArgumentParser(description="Install from this checkout, or take it back.")
    parser.add_argument("what", choices=("install", "uninstall"))
    parser.add_argument("--prefix", default=DEFAULT_PREFIX, help="an absolute path")
    parser.add_argument("--destdir", type=Path, default=Path("/"), help="a root that is not /")
    arguments = parser.parse_args()
    prefix = arguments.prefix.rstrip("/")
    if not prefix.startswith("/") or prefix.count("/") < 2:
        sys.exit("the prefix is an absolute path of its own, such as /opt/chatterboxd")
    action = install if arguments.what == "install" else uninstall
    action(prefix, arguments.destdir)


if __name__ == "__main__":
    main()
