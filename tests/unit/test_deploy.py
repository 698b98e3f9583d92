"""The files of deploy/ against the daemon: settings, ports and times that exist and agree."""

import re
from pathlib import Path
from typing import Any

import yaml

from daemon.config import Config
from daemon.settings import FILE_VARIABLE, all_settings

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"


def manifests() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_every_variable_is_a_setting() -> None:
    """The daemon refuses unknown ones: a misspelt variable is a container that never starts."""
    known = {item.variable for item in all_settings()} | {FILE_VARIABLE}
    for path in DEPLOY.iterdir():
        named = set(re.findall(r"CHATTERBOXD_[A-Z_]+", path.read_text()))
        assert named <= known, path.name
    for unit in (ROOT / "systemd").glob("*.service"):
        assert set(re.findall(r"CHATTERBOXD_[A-Z_]+", unit.read_text())) <= known, unit.name


def test_everything_that_the_image_copies_exists() -> None:
    """A folder that was renamed breaks the build long after the commit."""
    copied = re.findall(r"(?m)^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text())
    names = [name for line in copied for name in line.split()]
    assert {"daemon", "chatterbox", "web_client"} <= set(names)
    assert not [name for name in names if not (ROOT / name).exists()]


def test_a_pod_has_the_time_that_it_needs_to_drain() -> None:
    """Kubernetes kills at the end of its own period, whatever still speaks."""
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {item["name"]: item["value"] for item in container["env"]}
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    needed_s = pause_s + float(variables["CHATTERBOXD_GRACE_S"]) + 10
    assert pod["terminationGracePeriodSeconds"] >= needed_s


def test_the_probes_ask_for_what_exists() -> None:
    """Liveness on /readyz would restart a daemon for being full."""
    (container,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    paths = {
        name: container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= Config().start_s
    port = container["ports"][0]
    assert port["containerPort"] == Config().port
    assert manifests()["Service"]["spec"]["ports"][0]["port"] == Config().port


def test_haproxy_outlives_the_pings() -> None:
    """A balancer that closes idle connections before the next ping closes every quiet session."""
    text = (DEPLOY / "haproxy.cfg").read_text()
    times = {name: int(value) for name, value in re.findall(r"timeout (\S+) (\d+)s", text)}
    assert min(times["client"], times["server"]) >= 2 * Config().ping_s
    assert "option httpchk GET /healthz" in text
