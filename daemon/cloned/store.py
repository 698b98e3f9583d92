"""Voices and what is known of them in, files in a folder out, and back after a restart.

Each voice is two files, named by the daemon: ID.safetensors, which the engine reads, and ID.json.
Without a folder they live in a temporary one, which goes with the daemon, or with the next one if
it was killed. Knows no engine.
"""

import fcntl
import json
import logging
import math
import os
import shutil
import stat
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from daemon.config import ConfigError

_log = logging.getLogger(__name__)

_VOICE, _RECORD = ".safetensors", ".json"
_LOCK = "lock"
_TEMPORARY = "chatterboxd-voices-"
_ABANDONED_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClonedVoice:
    """What is kept of a voice beside its sound."""

    id: str
    """What clients open contexts with; nobody can guess it."""
    owner: str
    """The name of the token that uploaded it; "" where nobody needs one."""
    name: str
    """What its owner calls it."""
    model: str
    consent: bool
    peer: str
    clip_sha256: str
    clip_bytes: int
    seconds: float
    """Of the clip."""
    made_s: float
    """Wall time."""
    expires_s: float | None

    def is_expired(self, now_s: float) -> bool:
        return self.expires_s is not None and self.expires_s <= now_s

    def expires_in_s(self, now_s: float) -> int | None:
        return None if self.expires_s is None else max(0, round(self.expires_s - now_s))


class VoiceStore:
    """Blocking: call it outside the event loop, but for `path`."""

    def __init__(self, state_folder: Path | None) -> None:
        """Raises `ConfigError` if nothing can be written there, or another daemon does."""
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if state_folder is None:
            _remove_abandoned()
            self._temporary = tempfile.TemporaryDirectory(prefix=_TEMPORARY)
            state_folder = Path(self._temporary.name)
        self._folder = state_folder.absolute() / "voices"
        self._work = state_folder.absolute() / "work"
        try:
            for folder in (self._folder, self._work):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(state_folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in self._work.iterdir():  # of a daemon that was killed
                left.unlink()
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(f"state_folder: {state_folder} is another daemon's") from None
        except OSError as error:
            raise ConfigError(f"state_folder: {error}") from error

    def close(self) -> None:
        # While it is locked, no other daemon takes it for an abandoned one.
        if self._temporary is not None:
            self._temporary.cleanup()
        os.close(self._lock)

    def path(self, voice_id: str) -> Path:
        """Where the engine reads it."""
        return self._folder / (voice_id + _VOICE)

    def new_work(self, voice_id: str) -> tuple[Path, Path]:
        """Where a clip is put, and the voice that is made of it."""
        return self._work / (voice_id + ".clip"), self._work / (voice_id + _VOICE)

    def write_clip(self, path: Path, clip: bytes) -> None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(clip)

    def forget_work(self, voice_id: str) -> None:
        for path in (*self.new_work(voice_id), self._partial_record(voice_id)):
            path.unlink(missing_ok=True)

    def _partial_record(self, voice_id: str) -> Path:
        return self._work / (voice_id + _RECORD)

    def keep(self, voice: ClonedVoice, made: Path) -> None:
        """From now on `load` finds it. The record comes last: without it a voice is nobody's."""
        made.chmod(0o600)
        made.replace(self.path(voice.id))
        record = self._folder / (voice.id + _RECORD)
        partial = self._partial_record(voice.id)
        partial.write_text(json.dumps(asdict(voice)))
        partial.chmod(0o600)
        partial.replace(record)

    def delete(self, voice_id: str) -> None:
        """The record goes last: if this is cut short, the next start finishes it."""
        self.path(voice_id).unlink(missing_ok=True)
        (self._folder / (voice_id + _RECORD)).unlink(missing_ok=True)

    def load(self) -> list[ClonedVoice]:
        """All that is whole, oldest first; what is not is removed."""
        found = []
        for path in self._folder.glob("*" + _RECORD):
            voice = _read(path)
            if voice is not None and self.path(voice.id).is_file():
                found.append(voice)
            else:
                _log.warning("%s is not the record of a voice, and was removed", path)
                self.delete(path.stem)
        known = {voice.id for voice in found}
        for path in self._folder.glob("*" + _VOICE):
            if path.stem not in known:
                path.unlink()
        return sorted(found, key=lambda voice: voice.made_s)


def _remove_abandoned() -> None:
    """Temporary folders of daemons that were killed: nobody would delete what is in them. Those of
    living ones are locked, or as young as the lock is when it is made."""
    for folder in Path(tempfile.gettempdir()).glob(_TEMPORARY + "*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            continue  # another daemon has just removed it, or it is none of ours
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(lock).st_mtime > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # it lives
        finally:
            os.close(lock)


def _read(path: Path) -> ClonedVoice | None:
    try:
        facts = json.loads(path.read_text())
        voice = ClonedVoice(**{item.name: facts[item.name] for item in fields(ClonedVoice)})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return voice if voice.id == path.stem and _is_whole(voice) else None


def _is_whole(voice: ClonedVoice) -> bool:
    texts = (voice.owner, voice.name, voice.model, voice.peer, voice.clip_sha256)
    times = (voice.seconds, voice.made_s, *(() if voice.expires_s is None else (voice.expires_s,)))
    return all(isinstance(text, str) for text in texts) and all(
        isinstance(time, int | float) and math.isfinite(time) for time in times
    )
