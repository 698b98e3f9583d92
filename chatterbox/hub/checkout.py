"""The name of an official checkpoint in, a folder with all of its files out, each verified.

What the hub's cache lacks is fetched, unless that is forbidden. A file that is not the pinned one
is named, and nothing is loaded: neither half a file nor another one.
"""

import logging
import shutil
from functools import cache
from pathlib import Path

import httpx2
from huggingface_hub import constants, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

from chatterbox.hub.pins import HubError, PinnedFile, PinnedModel, pinned_models
from chatterbox.hub.transfer import PARTIAL, cache_folder, fetch

_LOG = logging.getLogger("chatterbox.hub")
SPARE_BYTES = 256 * 2**20
"""Of the disk, left free."""
_REFUSED = (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN)


def checkout(name: str, *, offline: bool = False) -> Path:
    """The folder of `name`, a key of `pinned_models`. Raises `HubError`."""
    model = pinned_models()[name]
    found = {pin: _cached(model, pin) for pin in model.files}
    missing = [pin for pin, path in found.items() if path is None]
    needed = [pin.name for pin in missing if not pin.is_optional]
    if needed:
        if offline or is_offline_mode():
            raise HubError(
                f"{constants.HF_HUB_CACHE} lacks {', '.join(needed)} of {model}, and nothing may be"
                f" fetched (offline): run `python -m chatterbox.hub {name}` where the hub can be"
                f" reached and bring {cache_folder(model.repository).name} of its cache, or give"
                " the folder of the files as --model"
            )
        found |= _fetch_all(model, missing)
    for pin, path in found.items():
        if path is not None:
            _verify(pin, path, path.stat().st_mtime_ns)
    return next(path for path in found.values() if path is not None).parent


def missing_bytes(name: str) -> int:
    """How much of a checkpoint would have to be fetched."""
    model = pinned_models()[name]
    return sum(pin.num_bytes for pin in model.files if _cached(model, pin) is None)


def _cached(model: PinnedModel, pin: PinnedFile) -> Path | None:
    path = try_to_load_from_cache(model.repository, pin.name, revision=model.revision)
    return Path(path) if isinstance(path, str) else None


@cache
def _verify(pin: PinnedFile, path: Path, modified_ns: int) -> None:
    """Once in a process for each state of a file: it takes a second for two gigabytes."""
    blob = path.resolve()
    pin.verify(path, remedy=f"delete {blob}, and it is fetched again")


def _fetch_all(model: PinnedModel, missing: list[PinnedFile]) -> dict[PinnedFile, Path]:
    total = sum(pin.num_bytes for pin in missing)
    _LOG.info(
        "fetching %d files, %.2f GB, of %s into %s",
        len(missing),
        total / 1e9,
        model,
        constants.HF_HUB_CACHE,
    )
    try:
        _require_room(model, total)
        return {pin: path for pin in missing if (path := _fetch_if_there(model, pin)) is not None}
    except OSError as error:
        raise HubError(
            f"{error.filename or constants.HF_HUB_CACHE}: {error.strerror or error}; HF_HOME names"
            " another place for the files, and what has arrived is kept"
        ) from error


def _fetch_if_there(model: PinnedModel, pin: PinnedFile) -> Path | None:
    """None for an optional file that the hub does not have."""
    try:
        return fetch(model, pin)
    except RemoteEntryNotFoundError as error:
        if not pin.is_optional:
            raise _explained(error, model, pin) from error
        _LOG.info("%s has no %s; going on without it", model, pin.name)
        return None
    except (httpx2.HTTPError, FileMetadataError) as error:
        raise _explained(error, model, pin) from error


def _require_room(model: PinnedModel, total: int) -> None:
    folder = cache_folder(model.repository)
    folder.mkdir(parents=True, exist_ok=True)
    have = sum(path.stat().st_size for path in folder.glob(f"blobs/*{PARTIAL}"))
    free = shutil.disk_usage(folder).free
    if free < total - have + SPARE_BYTES:
        raise HubError(
            f"{model} needs {(total - have) / 1e9:.2f} GB more in {folder}, and"
            f" {free / 1e9:.2f} GB are free there; HF_HOME names another place"
        )


def _explained(error: Exception, model: PinnedModel, pin: PinnedFile) -> HubError:
    """The library's error as one line that says what to do."""
    what = f"{pin.name} of {model}"
    if isinstance(error, RemoteEntryNotFoundError):
        return HubError(f"{what} is not on the hub (404); does HF_ENDPOINT name a mirror?")
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{what}: the hub no longer has this revision; has the project moved on?")
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{what}: the hub wants its conditions accepted first: do so on the repository's page,"
            " then `hf auth login`"
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in _REFUSED:
            return HubError(
                f"{what}: the hub refuses ({status}); it is public, so a token that is wrong or too"
                " narrow is in the way: unset HF_TOKEN, or `hf auth login`"
            )
        return HubError(f"{what}: the hub answered {status}; try again later")
    return HubError(
        f"{what}: no answer from {constants.ENDPOINT} ({str(error) or type(error).__name__});"
        " check the network, the proxy and HF_ENDPOINT, or give a local folder as --model"
    )
