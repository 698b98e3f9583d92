"""One pinned file → the hub's cache, resumed where it was cut, verified before it appears there.

The library's own download starts a file over when its process ended, and gives it its name unread.
So only the bytes are fetched here, into a partial file beside the place that the cache keeps them
in; routes, headers, retries, the layout of the cache and its links are the library's.
"""

import fcntl
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff, tqdm

from chatterbox.hub.pins import HubError, PinnedFile, PinnedModel

_LOG = logging.getLogger("chatterbox.hub")
PARTIAL = ".chatterboxd-partial"
MAX_FRUITLESS = 5
"""Attempts in a row that bring not a single byte."""
RETRY_S = 1.0
LINE_EVERY_S = 30.0
_FILE_NAME = re.compile(r"[\w-]+")
"""What an etag must be: the cache calls the file so."""


def cache_folder(repository: str) -> Path:
    """Where the hub's cache keeps a repository."""
    name = repo_folder_name(repo_id=repository, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / name


def fetch(model: PinnedModel, pin: PinnedFile) -> Path:
    """The file in the cache. Raises `HubError`, or what the library raises over the network."""
    url = hf_hub_url(model.repository, pin.name, revision=model.revision)
    facts = get_hf_file_metadata(url)
    if not _FILE_NAME.fullmatch(facts.etag or "") or facts.commit_hash != model.revision:
        raise HubError(
            f"{url} was not answered by a Hugging Face hub; is HF_ENDPOINT right, or is a proxy"
            " in between?"
        )
    assert facts.etag is not None, "as it is no empty one"
    _compare(model, pin, announced=facts.etag, num_bytes=facts.size)
    blob = cache_folder(model.repository) / "blobs" / facts.etag
    blob.parent.mkdir(parents=True, exist_ok=True)
    with (blob.parent / (blob.name + PARTIAL)).open("ab") as partial:
        _take_turn(partial, pin)
        if not blob.exists():
            _receive(url, partial, pin)
            _check(partial, pin)
            Path(partial.name).replace(blob)
    # The bytes are there by now; this makes the link that every program finds them by.
    return Path(hf_hub_download(model.repository, pin.name, revision=model.revision))


def _take_turn(partial: BinaryIO, pin: PinnedFile) -> None:
    """Of two processes that start at once the second waits, then finds the work done."""
    try:
        fcntl.flock(partial, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _LOG.info("another process fetches %s; waiting for it", pin.name)
        fcntl.flock(partial, fcntl.LOCK_EX)


def _compare(model: PinnedModel, pin: PinnedFile, *, announced: str, num_bytes: int | None) -> None:
    """With what the hub says of the file: gigabytes later is late to learn it."""
    remedy = "nothing was fetched: is HF_ENDPOINT a mirror that has changed it?"
    if num_bytes is not None and num_bytes != pin.num_bytes:
        raise HubError(
            f"{pin.name} of {model} has {num_bytes:,} bytes on the hub, not {pin.num_bytes:,};"
            f" {remedy}"
        )
    # Of a small file it is git's name for it, which is shorter.
    if len(announced) == len(pin.sha256) and announced != pin.sha256:
        raise HubError(
            f"{pin.name} of {model} has the SHA-256 {announced} on the hub, not {pin.sha256};"
            f" {remedy}"
        )


def _check(partial: BinaryIO, pin: PinnedFile) -> None:
    try:
        pin.verify(Path(partial.name), remedy="it was thrown away: start again")
    except HubError:
        # Emptied, not removed: another process may wait for this very file's lock.
        partial.truncate(0)
        raise


def _receive(url: str, partial: BinaryIO, pin: PinnedFile) -> None:
    """Append what is missing."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    fruitless = 0
    partial.seek(0, 2)
    if partial.tell() > pin.num_bytes:
        _start_over(partial)
    with _progress(pin, partial.tell()) as progress:
        while (have := partial.tell()) < pin.num_bytes:
            try:
                _receive_once(url, headers, partial, pin, progress)
                reason = "it ended early"
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
            if partial.tell() >= pin.num_bytes:
                break
            fruitless = 0 if partial.tell() > have else fruitless + 1
            told = f"{pin.name} was cut after {partial.tell():,} of {pin.num_bytes:,} bytes"
            if fruitless >= MAX_FRUITLESS:
                raise HubError(f"{told} ({reason}); start again, and it goes on from there")
            _LOG.warning("%s (%s); going on from there", told, reason)
            if fruitless:
                time.sleep(RETRY_S)


def _receive_once(
    url: str, headers: dict[str, str], partial: BinaryIO, pin: PinnedFile, progress: "Progress"
) -> None:
    have = partial.tell()
    wanted = headers | ({"Range": f"bytes={have}-"} if have else {})
    with http_stream_backoff(
        "GET",
        url,
        headers=wanted,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        retry_on_exceptions=(),  # a cut body must come back here, to go on from there
    ) as response:
        hf_raise_for_status(response)
        if have and response.status_code != httpx2.codes.PARTIAL_CONTENT:
            _start_over(partial)
            progress.advance(-have)
        try:
            # As it comes: a block of a fixed size would be lost with the cut in its middle.
            for block in response.iter_bytes():
                partial.write(block)
                progress.advance(len(block))
                if partial.tell() > pin.num_bytes:
                    break  # it is another file, however much more of it there is
        finally:
            partial.flush()


def _start_over(partial: BinaryIO) -> None:
    partial.seek(0)
    partial.truncate()


class Progress:
    """A bar on a terminal, else a line of the log now and then: a log is no place for bars."""

    def __init__(self, pin: PinnedFile, have: int) -> None:
        self._pin = pin
        self._have = have
        self._told_s = time.monotonic()
        self._bar = (
            tqdm(  # type: ignore[no-untyped-call]  # tqdm has no types
                desc=pin.name, total=pin.num_bytes, initial=have, unit="B", unit_scale=True
            )
            if sys.stderr.isatty()
            else None
        )

    def advance(self, num_bytes: int) -> None:
        self._have += num_bytes
        if self._bar is not None:
            self._bar.update(num_bytes)
        elif time.monotonic() - self._told_s >= LINE_EVERY_S:
            self._told_s = time.monotonic()
            share = 100 * self._have // self._pin.num_bytes
            _LOG.info("%s: %d %% of %.2f GB", self._pin.name, share, self._pin.num_bytes / 1e9)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def _progress(pin: PinnedFile, have: int) -> Iterator[Progress]:
    progress = Progress(pin, have)
    try:
        yield progress
    finally:
        progress.close()
