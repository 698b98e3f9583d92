"""The name of a lock (runtime, compat, dev ...) in, a virtual environment that holds it out.

Standard library only: it is what runs before anything is installed. Nothing outside the
environment's folder changes, and a second run with an unchanged lock does nothing.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

if not (3, 11) <= sys.version_info[:2] < (3, 15):
    sys.exit(
        f"chatterboxd needs Python 3.11 to 3.14; this is {sys.version.split()[0]}"
        f" ({sys.executable}).\nName another one: make PYTHON=/path/to/python3.12 ..."
    )

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / os.environ.get("VENV", ".venv")
# Each lock holds everything of the ones before it, at the same versions; but for the last, which
# has an environment of its own.
LOCKS = ("runtime", "compat", "watermark", "dev", "train", "compat-test")
DOWNLOAD_GB = {
    "runtime": 2.8,
    "compat": 2.8,
    "watermark": 2.8,
    "dev": 2.8,
    "train": 3.0,
    "compat-test": 0.4,
}
# The wheels, pip's cache of them, and what they unpack to.
DISK_GB = {"runtime": 11, "compat": 11, "watermark": 11, "dev": 11, "train": 12, "compat-test": 4}
BIG_MB = 20.0


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def lock_path(name: str) -> Path:
    return ROOT / "requirements" / (name + ".txt")


def digest(name: str) -> str:
    content = lock_path(name).read_bytes() + sys.version.encode()
    return hashlib.sha256(content).hexdigest()


def is_current(name: str) -> bool:
    stamp = FOLDER / (".installed-" + name)
    interpreter = FOLDER / "bin" / "python"
    return stamp.exists() and interpreter.exists() and stamp.read_text() == digest(name)


def create() -> None:
    """Make the environment, or make it anew if its interpreter is gone or another one."""
    marker = FOLDER / ".python"
    if (FOLDER / "bin" / "pip").exists() and marker.exists():
        if marker.read_text() == sys.version:
            return
        say(f"the Python in {FOLDER.name} is another one: starting over")
    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(FOLDER)
    except subprocess.CalledProcessError:
        sys.exit(
            "this Python cannot make a virtual environment with pip inside.\n"
            "On Debian and Ubuntu: apt install python3-venv"
        )
    marker.write_text(sys.version)


def check_disk(name: str) -> None:
    free_gb = shutil.disk_usage(FOLDER).free / 1e9
    if free_gb < DISK_GB[name]:
        sys.exit(
            f"{DISK_GB[name]} GB of disk are needed in {FOLDER.parent}, {free_gb:.1f} are free"
        )


class Progress:
    """pip's lines in; out, one line rewritten on a terminal, or one for each big wheel in a log."""

    def __init__(self, num_packages: int) -> None:
        self.num_packages = num_packages
        self.num_seen = 0
        self.on_terminal = sys.stderr.isatty()

    def show(self, text: str, *, important: bool) -> None:
        if self.on_terminal:
            sys.stderr.write("\r\033[K  " + text)
            sys.stderr.flush()
        elif important:
            say("  " + text)

    def line(self, line: str) -> None:
        collecting = re.match(r"Collecting (\S+)", line)
        fetching = re.match(r"\s+(?:Downloading|Using cached) (\S+?)-\S+ \(([\d.]+) (\w+)", line)
        if collecting:
            self.num_seen += 1
            self.show(self.numbered(collecting.group(1)), important=False)
        elif fetching:
            name, size, unit = fetching.groups()
            text = self.numbered("{} ({} {})".format(name.rsplit("/", 1)[-1], size, unit))
            self.show(text, important=unit == "GB" or (unit == "MB" and float(size) >= BIG_MB))
        elif line.startswith("Installing collected packages"):
            self.show("unpacking (a minute or two)", important=True)

    def numbered(self, text: str) -> str:
        return f"[{self.num_seen}/{self.num_packages}] {text}"


def install(name: str) -> None:
    """Install one lock with pip; on failure show the end of what pip said."""
    lock = lock_path(name)
    scratch = FOLDER / "tmp"
    scratch.mkdir(exist_ok=True)
    # pip keeps every wheel in its temporary folder at once, and /tmp is often small and in memory.
    environment = dict(os.environ)
    environment.setdefault("TMPDIR", str(scratch))
    command = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--require-hashes"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-r", str(lock)]
    progress = Progress(len(re.findall(r"(?m)^\w[^\s=]*==", lock.read_text())))
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            said.append(line)
            progress.line(line)
    if progress.on_terminal:
        sys.stderr.write("\r\033[K")
    shutil.rmtree(scratch, ignore_errors=True)
    if pip.returncode != 0:
        sys.exit("".join(said[-25:]) + "pip could not install " + str(lock))


def main() -> None:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in LOCKS:
        sys.exit("usage: setup_venv.py " + "|".join(LOCKS))
    if any(is_current(larger) for larger in LOCKS[LOCKS.index(name) :]):
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with lock_path("runtime").open() as guard:
        # Two `make`s at once: the second waits, then finds the work done.
        fcntl.flock(guard, fcntl.LOCK_EX)
        if is_current(name):
            return
        if (FOLDER / ".installed-runtime").exists() or (FOLDER / ".installed-dev").exists():
            say(f"updating {FOLDER.name} ({name})")
        else:
            check_disk(name)
            most = "" if name == LOCKS[-1] else ", torch and CUDA's libraries"
            say(
                f"setting up {FOLDER.name} ({name}): this first time it downloads about"
                f" {DOWNLOAD_GB[name]} GB{most}"
            )
        started_at = time.monotonic()
        create()
        install(name)
        (FOLDER / (".installed-" + name)).write_text(digest(name))
        say(f"{FOLDER.name} is ready after {time.monotonic() - started_at:.0f} s")


if __name__ == "__main__":
    main()
