"""The key of a clip → the voice that was computed from it, kept in a folder of bounded size.

Files that were not used for longest go first. Several processes may share the folder: a file
appears whole, and one that is gone, or not whole, is a voice that has to be computed again.
"""

import logging
import os
from pathlib import Path

from chatterbox.config import ModelConfig
from chatterbox.voice import Voice, VoiceError, load_voice, save_voice

_LOG = logging.getLogger(__name__)


def users_cache() -> Path:
    """Where a user's programs keep what they can compute again (XDG)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "chatterboxd" / "voices"


class VoiceCache:
    """A folder of voice files named by key."""

    def __init__(
        self, folder: Path, *, max_voices: int = 200, max_bytes: int = 100 * 2**20
    ) -> None:
        self._folder = folder
        self._max_voices = max_voices
        self._max_bytes = max_bytes

    def get(self, key: str, config: ModelConfig) -> Voice | None:
        """The voice, or None if it is not there."""
        path = self._path(key)
        try:
            voice = load_voice(path, config)
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("the cache cannot be read: %s", error)
            return None
        except VoiceError as error:
            _LOG.warning("computing a voice again: %s", error)
            path.unlink(missing_ok=True)
            return None
        return voice

    def put(self, key: str, voice: Voice) -> None:
        """Keep a voice, and forget the oldest ones beyond the bounds. Where that cannot be, the
        voice is made nevertheless."""
        try:
            self._put(key, voice)
        except OSError as error:
            _LOG.warning("the voice is not kept for the next time: %s", error)

    def _put(self, key: str, voice: Voice) -> None:
        # A voice is how somebody sounds: nobody else on this machine needs to read it.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self._folder / f".{key}.{os.getpid()}"
        try:
            save_voice(partial, voice)
            partial.replace(self._path(key))
        finally:
            partial.unlink(missing_ok=True)
        self._forget()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"

    def _forget(self) -> None:
        found = []
        for path in self._folder.glob("*.safetensors"):
            try:
                found.append((path.stat(), path))
            except FileNotFoundError:
                continue  # another process has just forgotten it
        kept_bytes = 0
        newest_first = sorted(found, key=lambda item: item[0].st_mtime_ns, reverse=True)
        for index, (status, path) in enumerate(newest_first):
            kept_bytes += status.st_size
            if index >= self._max_voices or kept_bytes > self._max_bytes:
                path.unlink(missing_ok=True)
