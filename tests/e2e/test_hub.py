"""`python -m chatterbox.hub` against a local server of the hub's routes, whole and broken."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from chatterbox.hub import checkout as checking
from chatterbox.hub.pins import HubError, PinnedFile, PinnedModel
from tests.e2e.hub_server import (
    REPOSITORY,
    REVISION,
    HubFiles,
    serving,
    sha256,
    start_program,
    write_pins,
)

WEIGHTS = bytes(range(256)) * 20_000
BIG = "t3.safetensors"


@pytest.fixture
def hub() -> HubFiles:
    return HubFiles(
        large={BIG: WEIGHTS, "s3gen.safetensors": WEIGHTS[:70_000]},
        small={"vocab.json": b"{}" * 500, "conds.pt": b"a voice" * 99},
    )


class Place:
    """One cache, and the hub that fills it."""

    def __init__(self, hub: HubFiles, endpoint: str, folder: Path) -> None:
        self._endpoint, self.home = endpoint, folder / "home"
        self._table = write_pins(folder / "pins.toml", hub)

    @property
    def snapshot(self) -> Path:
        return self._repository / "snapshots" / REVISION

    @property
    def blobs(self) -> Path:
        return self._repository / "blobs"

    @property
    def _repository(self) -> Path:
        return self.home / "hub" / ("models--" + REPOSITORY.replace("/", "--"))

    def start(self, *arguments: str, **environ: str) -> "Popen[str]":
        return self.start_program("chatterbox.hub", *arguments, environ=environ)

    def start_program(
        self,
        module: str,
        *arguments: str,
        stderr: int = PIPE,
        environ: Mapping[str, str] | None = None,
    ) -> "Popen[str]":
        return start_program(
            module,
            *arguments,
            table=self._table,
            home=self.home,
            endpoint=self._endpoint,
            stderr=stderr,
            environ=environ or {},
        )

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        with self.start(*(arguments or ("tiny",)), **environ) as command:
            out, err = command.communicate(timeout=60)
        assert "Traceback" not in err, err
        return command.returncode, out.strip(), err

    def refused(self, *arguments: str) -> str:
        """The one line that says why, of a run that failed and left nothing half done."""
        status, out, err = self.run(*arguments)
        assert (status, out) == (1, "")
        assert not (self.snapshot / BIG).exists(), "half a file was shown to everybody"
        return err.strip().splitlines()[-1]


@pytest.fixture
def place(hub: HubFiles, tmp_path: Path) -> Iterator[Place]:
    with serving(hub) as endpoint:
        yield Place(hub, endpoint, tmp_path)


def test_files_arrive_whole_and_are_used_again(hub: HubFiles, place: Place) -> None:
    """The cache is the hub's own, in its layout, so that other programs find the files there; the
    next start asks the hub nothing, with a network or without.
    """
    status, out, err = place.run()
    assert status == 0, err
    assert Path(out) == place.snapshot
    for name, content in (hub.large | hub.small).items():
        assert (place.snapshot / name).read_bytes() == content
        assert (place.snapshot / name).is_symlink()
    assert "fetching 4 files" in err
    assert "\r" not in err, "a log is no place for bars"
    assert not list(place.blobs.glob("*partial"))
    asked = len(hub.requests)
    for arguments, environ in (((), {}), (("--offline",), {}), ((), {"HF_HUB_OFFLINE": "1"})):
        assert place.run("tiny", *arguments, **environ)[:2] == (0, out)
    assert len(hub.requests) == asked


def test_a_cut_connection_goes_on_where_it_was(hub: HubFiles, place: Place) -> None:
    """Two gigabytes over a bad line must not start over at each hiccup."""
    hub.cut_after = [1_000_000, 2_000_000]
    status, _, err = place.run()
    assert status == 0, err
    assert hub.ranges(BIG) == [None, "bytes=1000000-", "bytes=3000000-"]
    assert "was cut after 1,000,000 of 5,120,000 bytes" in err
    assert (place.snapshot / BIG).read_bytes() == WEIGHTS


def test_the_next_run_goes_on_as_well(hub: HubFiles, place: Place) -> None:
    """Whoever lost patience, power or the network for an hour keeps what has arrived."""
    hub.cut_after = [3_000_000, *[0] * 20]
    refusal = place.refused()
    assert f"{BIG} was cut after 3,000,000 of 5,120,000 bytes" in refusal
    assert "start again, and it goes on from there" in refusal
    hub.cut_after.clear()
    hub.requests.clear()
    assert place.run()[0] == 0
    assert hub.ranges(BIG) == ["bytes=3000000-"]
    assert (place.snapshot / BIG).read_bytes() == WEIGHTS


def test_a_server_without_ranges(hub: HubFiles, place: Place) -> None:
    """It sends the file from its start; appending that would make a file of two beginnings."""
    hub.knows_ranges, hub.cut_after = False, [1_000_000]
    assert place.run()[0] == 0
    assert (place.snapshot / BIG).read_bytes() == WEIGHTS


def test_other_content_is_thrown_away(hub: HubFiles, place: Place) -> None:
    """A proxy that "repairs", a bad disk, somebody in between: the same size, another hash."""
    hub.served[BIG] = WEIGHTS[:-1] + b"!"
    refusal = place.refused()
    assert BIG in refusal
    assert "its SHA-256 is" in refusal
    assert "thrown away: start again" in refusal
    hub.served.clear()
    hub.requests.clear()
    assert place.run()[0] == 0
    assert hub.ranges(BIG) == [None], "nothing of the bad file may be left"
    hub.served["vocab.json"] = b"[]" * 500
    shutil.rmtree(place.home)
    assert place.run()[0] == 1


def test_a_file_without_end_is_left_at_its_end(hub: HubFiles, place: Place) -> None:
    """What goes on after the announced size would fill the disk."""
    hub.served[BIG] = WEIGHTS * 20
    refusal = place.refused()
    found = re.search(r"has ([\d,]+) bytes, t3.safetensors 5,120,000", refusal)
    assert found is not None, refusal
    assert len(WEIGHTS) < int(found[1].replace(",", "")) < 2 * len(WEIGHTS)


def test_a_partial_file_longer_than_the_file(place: Place, hub: HubFiles) -> None:
    """However it came about, it is no start of the file."""
    hub.cut_after = [0] * 20
    place.refused()
    (partial,) = place.blobs.glob("*partial")
    partial.write_bytes(WEIGHTS * 2)
    hub.cut_after.clear()
    assert place.run()[0] == 0
    assert (place.snapshot / BIG).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": REVISION}, r"not on the hub"),
        (404, {"X-Error-Code": "RevisionNotFound"}, r"no longer has this revision"),
        (401, {"X-Error-Code": "RepoNotFound"}, r"refuses \(401\).*unset HF_TOKEN"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, r"HF_TOKEN"),
        (403, {"X-Error-Code": "GatedRepo"}, r"conditions accepted first"),
        (403, {}, r"refuses \(403\)"),
        (418, {}, r"answered 418; try again later"),
        (200, {"ETag": '"abc"'}, r"not answered by a Hugging Face hub.*HF_ENDPOINT"),
        (200, {"ETag": '"abc"', "X-Repo-Commit": REVISION, "X-Linked-Size": "7"}, r"has 7 bytes"),
        (200, {"ETag": '"../../../x"', "X-Repo-Commit": REVISION}, r"not answered by a Hugging"),
        (
            200,
            {"ETag": '"abc"', "X-Repo-Commit": REVISION}
            | {"X-Linked-Etag": f'"{"0" * 64}"', "X-Linked-Size": str(len(WEIGHTS))},
            r"has the SHA-256 0{64} on the hub, not [0-9a-f]{64}; nothing was fetched",
        ),
    ],
)
def test_every_refusal_says_what_to_do(
    hub: HubFiles, place: Place, status: int, headers: dict[str, str], told: str
) -> None:
    """The library's own errors are pages long, and a missing file and a wrong token look alike."""
    hub.status[BIG] = (status, headers)
    refusal = place.refused()
    assert re.search(told, refusal), refusal
    assert BIG in refusal
    assert not hub.ranges(BIG), "gigabytes are not fetched to be thrown away"


def test_a_default_voice_may_be_missing(hub: HubFiles, place: Place) -> None:
    """It is the one file that a repository may drop, for nobody has documented whose voice it
    is.
    """
    del hub.small["conds.pt"]
    status, _, err = place.run()
    assert status == 0, err
    assert "has no conds.pt; going on without it" in err
    assert not (place.snapshot / "conds.pt").exists()
    assert place.run("tiny", "--offline")[0] == 0


def test_a_default_voice_that_was_deleted_stays_away(hub: HubFiles, place: Place) -> None:
    """Whoever does not want an unknown person's voice deletes one file; it must not come back, nor
    be a reason to ask the hub.
    """
    assert place.run()[0] == 0
    (place.snapshot / "conds.pt").unlink()
    asked = len(hub.requests)
    assert place.run()[:2] == (0, str(place.snapshot))
    assert len(hub.requests) == asked
    assert not (place.snapshot / "conds.pt").exists()


def test_without_a_network(place: Place, hub: HubFiles, tmp_path: Path) -> None:
    """Offline, what is missing is named with the command that fetches it; a hub that does not
    answer is not a missing file.
    """
    refusal = place.refused("tiny", "--offline")
    assert f"lacks {BIG}, s3gen.safetensors, vocab.json of {REPOSITORY}" in refusal
    assert "python -m chatterbox.hub tiny" in refusal
    nobody = Place(hub, "http://127.0.0.1:1", tmp_path)
    assert "no answer from http://127.0.0.1:1" in nobody.refused()
    status, _, err = place.run("huge")
    assert status == 2
    assert "no huge; there are tiny" in err


@pytest.mark.parametrize(
    ("content", "told"),
    [(WEIGHTS[:-1] + b"!", "is damaged"), (WEIGHTS[:-5], "has 5,119,995 bytes")],
)
def test_a_file_that_went_bad_is_named(place: Place, content: bytes, told: str) -> None:
    """A bad block, a full disk while copying: loading half a model would speak noise."""
    assert place.run()[0] == 0
    blob = (place.snapshot / BIG).resolve()
    blob.write_bytes(content)
    status, out, err = place.run("tiny", "--offline")
    assert (status, out) == (1, "")
    assert told in err
    assert f"delete {blob}, and it is fetched again" in err
    blob.unlink()
    assert place.run()[0] == 0
    assert (place.snapshot / BIG).read_bytes() == WEIGHTS


def test_two_at_once_fetch_once(hub: HubFiles, place: Place) -> None:
    """Two daemons of one machine start together; the cache would hold both halves of a fight."""
    with place.start("tiny") as one, place.start("tiny") as other:
        for command in (one, other):
            _, err = command.communicate(timeout=60)
            assert command.returncode == 0, err
    assert hub.ranges(BIG) == [None]
    assert (place.snapshot / BIG).read_bytes() == WEIGHTS


def test_waiting_for_another_process_is_told(hub: HubFiles, place: Place) -> None:
    """Twenty minutes of silence look like a hang."""
    place.blobs.mkdir(parents=True)
    with (place.blobs / f"{sha256(WEIGHTS)}.chatterboxd-partial").open("ab") as partial:
        fcntl.flock(partial, fcntl.LOCK_EX)
        with place.start("tiny") as command:
            assert command.stderr is not None
            said = next((line for line in command.stderr if "another process" in line), "")
            fcntl.flock(partial, fcntl.LOCK_UN)
            command.communicate(timeout=60)
    assert said == f"another process fetches {BIG}; waiting for it\n"
    assert command.returncode == 0


def test_a_killed_one_leaves_what_it_had(hub: HubFiles, place: Place) -> None:
    """kill -9 in the middle: no lock may stay, and the next one goes on."""
    hub.cut_after = [2_500_000, *[0] * 10_000]
    with place.start("tiny") as command:
        assert command.stderr is not None
        line = next((line for line in command.stderr if "was cut after" in line), "")
        command.kill()
    assert "2,500,000" in line
    hub.cut_after.clear()
    hub.requests.clear()
    assert place.run()[0] == 0
    assert hub.ranges(BIG) == ["bytes=2500000-"]


def test_a_full_disk_is_known_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ten minutes into a download is late to learn that there is no room."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = PinnedModel("big", "a/b", REVISION, "MIT", (PinnedFile("x", 10**15, "0" * 64),))
    monkeypatch.setattr(checking, "pinned_models", lambda: {"big": model})
    with pytest.raises(HubError, match=r"needs 1000000\.00 GB more .* HF_HOME names another"):
        checking.checkout("big")


def test_a_place_that_takes_no_files_is_told_with_another(place: Place) -> None:
    """A full or read-only disk, or a file where the cache must be: what the system says of it names
    no way out."""
    place.blobs.parent.mkdir(parents=True)
    place.blobs.write_text("a file")
    refusal = place.refused()
    assert f"{place.blobs}: File exists; HF_HOME names another place" in refusal


def test_a_terminal_gets_a_bar(place: Place) -> None:
    """Three gigabytes without a sign of life look like a hang."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    shown = b""
    with place.start_program("chatterbox.hub", "tiny", stderr=terminal) as command:
        os.close(terminal)
        with contextlib.suppress(OSError):  # what reading says once the other end is closed
            while block := os.read(screen, 65_536):
                shown += block
    os.close(screen)
    assert command.returncode == 0
    assert re.search(rb"t3\.safetensors: 100%.*5\.12M/5\.12M", shown), shown


def test_a_token_goes_to_the_hub_alone(hub: HubFiles, place: Place) -> None:
    """The content lies on another host, which has no business with anybody's token."""
    assert place.run("tiny", HF_TOKEN="hf_secret")[0] == 0
    assert hub.ranges(BIG) == [None]
    assert {token for _, token in hub.tokens} == {"Bearer hf_secret"}
    assert not [path for path, _ in hub.tokens if path.startswith("/lfs/")]


def test_a_daemon_that_fetches_can_be_stopped(hub: HubFiles, place: Place) -> None:
    """An operator who sees the wrong model arrive wants the next prompt, not the end of it."""
    hub.stalls = True
    with place.start_program("daemon", "--model", "tiny", "--port", "0") as daemon:
        assert daemon.stderr is not None
        said = next((line for line in daemon.stderr if "fetching 4 files" in line), "")
        daemon.send_signal(signal.SIGTERM)
        _, rest = daemon.communicate(timeout=60)
    assert "into" in said
    assert daemon.returncode == 0, rest
    assert "HTTP Request" not in rest
    assert not (place.snapshot / BIG).exists()
