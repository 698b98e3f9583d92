"""The installed unit under a systemd that really boots: a container of this machine's own root.

Needs root, systemd-nspawn and a system Python of the same version as ours; otherwise it is skipped.
Nothing of the machine changes: the container's root is an overlay in memory.
"""

import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT

LONGEST_S = 240
UNITS = ("chatterboxd.service", "chatterboxd.socket")
SYSTEM_PYTHON = Path(f"/usr/bin/python3.{sys.version_info.minor}")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may boot a container"),
    pytest.mark.skipif(
        shutil.which("systemd-nspawn") is None, reason="systemd-container is not installed"
    ),
    pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason=f"there is no {SYSTEM_PYTHON}"),
]

PROBE_UNIT = """
[Unit]
After=basic.target
[Service]
Type=oneshot
StandardOutput=file:/probe/log
StandardError=file:/probe/log
ExecStart=/bin/bash /probe/script
ExecStopPost=/bin/systemctl --no-block poweroff
"""
OVERRIDE = f"""
[Service]
ExecStart=
ExecStart={SYSTEM_PYTHON} -X faulthandler -m daemon --engine sine
Environment=PYTHONPATH=/srv/site
"""
SCRIPT = """
systemctl start chatterboxd; echo "start: $?"
systemctl show chatterboxd -p ActiveState -p StatusText
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/$(systemctl show -P MainPID chatterboxd)/status
systemctl reload chatterboxd; echo "reload: $?"; sleep 1
journalctl -u chatterboxd LOGGER=daemon.server -o cat --no-pager
systemctl kill -s STOP --kill-who=main chatterboxd; sleep 40
systemctl show chatterboxd -p NRestarts -p ActiveState
journalctl -u chatterboxd -o cat --no-pager | grep -E 'Watchdog timeout|most recent call first'
systemctl stop chatterboxd; echo "stop: $?"
systemctl show chatterboxd -p Result -p ExecMainStatus
systemctl start chatterboxd.socket
echo "before a client: $(systemctl is-active chatterboxd.service)"
printf 'GET /readyz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' > /dev/tcp/127.0.0.1/8765
sleep 5
echo "after a client: $(systemctl is-active chatterboxd.service)"
"""
BOOT = """
set -e
mount --make-rprivate /
mount --bind / "$1/rootfs"
exec systemd-nspawn --quiet --directory="$1/rootfs" --volatile=overlay --register=no --keep-unit \
    --boot --private-network --bind="$1/probe:/probe" --bind-ro="$1/units:/etc/systemd/system" \
    --bind-ro="$1/root/opt/chatterboxd:/opt/chatterboxd" \
    --bind-ro="$1/root/etc/chatterboxd:/etc/chatterboxd" --bind-ro="$2:/srv/site"
"""


def prepare(folder: Path) -> None:
    """What the container gets to see of us."""
    subprocess.run(
        [sys.executable, "tools/install.py", "install", "--destdir", str(folder / "root")],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in ("rootfs", "probe", "units/multi-user.target.wants", "units/chatterboxd.service.d"):
        (folder / name).mkdir(parents=True)
    units = folder / "units"
    for name in UNITS:
        shutil.copy(folder / "root/etc/systemd/system" / name, units)
    (units / "chatterboxd.service.d/here.conf").write_text(OVERRIDE)
    (units / "probe.service").write_text(PROBE_UNIT)
    (units / "multi-user.target.wants/probe.service").symlink_to("../probe.service")
    (folder / "probe/script").write_text(SCRIPT)
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)


def test_a_booted_systemd_starts_reloads_restarts_and_stops_it(tmp_path: Path) -> None:
    """What only the real one shows: the sandbox lets it work, a stopped process is restarted."""
    prepare(tmp_path)
    packages = site.getsitepackages()[0]
    console = subprocess.run(
        ["unshare", "--mount", "bash", "-c", BOOT, "boot", str(tmp_path), packages],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LONGEST_S,
        check=False,
    )
    log = tmp_path / "probe" / "log"
    assert log.exists(), console.stdout[-2000:] + console.stderr[-2000:]
    said = log.read_text()
    for line in (
        "start: 0",
        "StatusText=0 of 100 sessions, 0 of 4 slots speak",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "reload: 0",
        "tokens and certificate were read again",
        "NRestarts=1",
        "stop: 0",
        "Result=success",
        "ExecMainStatus=0",
        "before a client: inactive",
        "after a client: active",
    ):
        assert line in said.splitlines(), f"{line!r} is missing:\n{said}"
    assert re.search(r"Watchdog timeout", said)
    assert re.search(r"most recent call first", said), "the stacks of the stuck process"
    assert not re.search(r"^Uid:\t0\t", said, re.M)
