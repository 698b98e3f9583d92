"""Clips in, files of voices out: the worker as a process, its answers, the cache."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from chatterbox.checkpoint import can_clone
from chatterbox.conditioning.cloner import Cloner
from chatterbox.conditioning.loading import load_conditioner
from chatterbox.conditioning.voice_cache import VoiceCache
from chatterbox.variants import BUNDLED, find_checkpoint
from chatterbox.voice import Voice, VoiceError, load_voice
from tests.model.listening_checkpoint import LISTENING, write_clip, write_listeners
from tests.model.random_engine import CONFIG, random_voice


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listeners")
    write_listeners(folder)
    return folder


def ask(arguments: list[str], requests: list[str]) -> tuple[list[dict[str, Any]], str, int]:
    """Every answer of a worker, what it logged, and its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "chatterbox.cloning", *arguments],
        input="".join(f"{line}\n" for line in requests),
        capture_output=True,
        text=True,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr, done.returncode


def test_the_worker_answers_every_line(checkpoint: Path, tmp_path: Path) -> None:
    """An unfit clip, a line that is no request, a place that cannot be written: each gets its
    answer, and the next clip its voice.
    """
    clip, out = write_clip(tmp_path / "clip.wav"), tmp_path / "voice.safetensors"
    (tmp_path / "letter.mp3").write_text("Dear Sir or Madam, " * 50)
    request = {"clip": str(clip), "out": str(out)}
    answers, log, status = ask(
        ["--model", str(checkpoint), "--cache", str(tmp_path / "cache")],
        [
            "hello",
            json.dumps({"clip": str(tmp_path / "letter.mp3"), "out": str(out)}),
            json.dumps({"clip": str(clip), "out": str(tmp_path / "missing" / "voice")}),
            json.dumps(request),
            json.dumps(request),
        ],
    )
    ready, nonsense, letter, nowhere, made, again = answers
    assert ready == {"ready": True, "model": "small"}
    assert "one line of JSON" in nonsense["error"]
    assert "not audio" in letter["error"]
    assert "No such file" in log
    assert "log says why" in nowhere["failed"], "it is not the clip that is unfit"
    # The third request failed at its last step: its voice was in the cache by then.
    assert made == {"ok": True, "seconds": 3.0, "cached": True, "warnings": []}
    assert again == made
    assert status == 0
    assert load_voice(out, LISTENING).t3_prompt.shape == (1, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache",
        "clip.wav",
        "letter.mp3",
        "voice.safetensors",
    ]


def test_the_worker_says_why_it_cannot_start() -> None:
    """The bundled voice cannot clone; the daemon must be able to tell its clients so."""
    answers, _, status = ask(["--model", str(BUNDLED)], [])
    assert status == 1
    assert len(answers) == 1
    assert "cannot clone a voice" in answers[0]["error"]
    answers, _, status = ask(["--model", "/nowhere"], [])
    assert (status, len(answers)) == (1, 1)
    assert "no such folder" in answers[0]["error"]


def test_only_answers_reach_the_real_stdout(checkpoint: Path, tmp_path: Path) -> None:
    """A library that prints would break the protocol, one line for ever off."""
    clip, out = write_clip(tmp_path / "clip.flac"), tmp_path / "voice.safetensors"
    program = (
        "import sys, chatterbox.cloning as c, chatterbox.conditioning.cloner as k\n"
        "real = k.decode_clip\n"
        "k.decode_clip = lambda data: (sys.stdout.write('chatter\\n'), real(data))[1]\n"
        f"sys.argv = ['cloning', '--model', {str(checkpoint)!r}]\n"
        "sys.exit(c.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps({"clip": str(clip), "out": str(out)}) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert [set(json.loads(line)) for line in done.stdout.splitlines()] == [
        {"ready", "model"},
        {"ok", "seconds", "cached", "warnings"},
    ]
    assert "chatter" in done.stderr


def test_the_command_makes_a_voice(checkpoint: Path, tmp_path: Path) -> None:
    """Steps on standard error, one last line that says what to do with it; the second time from the
    cache; every refusal one line.
    """
    clip, out = write_clip(tmp_path / "clip.flac", 4.0), tmp_path / "ada.safetensors"

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "chatterbox.voice", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        )

    wanted = [str(clip), "--out", str(out), "--model", str(checkpoint)]
    done = run(*wanted)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: the voice of 4.0 s of clip.flac for small, in ")
    daemon = f"python -m daemon --model {checkpoint} --voices {tmp_path}"
    assert f"`{daemon}` offers it as 'ada'" in done.stdout
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        *("looking", "reading", "loading", "listening"),
    ]
    assert load_voice(out, LISTENING).prompt_tokens.shape == (1, 60)
    assert "from the cache" in run(*wanted).stdout
    refused = run(str(checkpoint / "config.json"), *wanted[1:])
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("python -m chatterbox.voice: not audio")
    refused = run(str(clip), "--out", str(tmp_path / "ada.wav"), *wanted[3:])
    assert "the name of a voice ends in .safetensors" in refused.stderr
    refused = run(*wanted[:-1], str(BUNDLED))
    assert "cannot clone a voice; english," in refused.stderr
    refused = run(*wanted, "--threads", "0")
    assert refused.stderr.endswith("argument --threads: '0' is no whole number from 1\n")
    short = write_clip(tmp_path / "short.wav", 0.9)
    refused = run(str(short), *wanted[1:])
    assert "loading" not in refused.stderr, "seconds of loading for a clip that is no use"
    assert "0.9 s without the silence at its ends; more than 1 s are needed" in refused.stderr
    (tmp_path / "cache" / "chatterboxd" / "voices").rename(tmp_path / "moved")
    (tmp_path / "cache" / "chatterboxd" / "voices").write_text("a file")
    done = run(*wanted)
    assert done.returncode == 0, "a cache is a help, not a condition"
    assert "the voice is not kept for the next time: " in done.stderr


def test_the_models_are_loaded_once(checkpoint: Path, tmp_path: Path) -> None:
    """A gigabyte read anew for each clip would be seconds and memory each time; a clip that the
    cache knows needs no models at all.
    """
    folder, config = find_checkpoint(str(checkpoint))
    cache = VoiceCache(tmp_path / "cache")
    cloner = Cloner(folder, config, cache)
    first = write_clip(tmp_path / "a.wav", 3.0)
    assert not cloner.clone(first, tmp_path / "a.safetensors").is_cached
    assert cloner.load() is cloner.load()

    class NoModels(Cloner):
        def load(self) -> Any:
            raise AssertionError("a cached voice needs no models")

    other = NoModels(folder, config, cache)
    assert other.clone(first, tmp_path / "b.safetensors").is_cached
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(AssertionError, match="needs no models"):
        other.clone(write_clip(tmp_path / "c.wav", 3.1), tmp_path / "c.safetensors")


def test_the_cache_tells_models_apart(checkpoint: Path, tmp_path: Path) -> None:
    """Turbo hears a clip at −27 LUFS and 15 s of it: its voice is not English's voice; nor is one
    that a folder with other weights would make.
    """
    folder, config = find_checkpoint(str(checkpoint))
    cache, clip = VoiceCache(tmp_path / "cache"), write_clip(tmp_path / "clip.wav")
    Cloner(folder, config, cache).clone(clip, tmp_path / "one.safetensors")
    for other in (
        replace(config, name="another"),
        replace(config, clip=replace(config.clip, loudness_lufs=-27.0)),
        replace(config, t3=replace(config.t3, prompt_tokens=30)),
    ):
        assert not Cloner(folder, other, cache).clone(clip, tmp_path / "two.safetensors").is_cached
    assert Cloner(folder, config, cache).clone(clip, tmp_path / "two.safetensors").is_cached
    trained = tmp_path / "trained"
    shutil.copytree(folder, trained)
    os.utime(trained / config.files.s3gen)
    assert not Cloner(trained, config, cache).clone(clip, tmp_path / "two.safetensors").is_cached


def _voice(seed: int) -> Voice:
    torch.manual_seed(seed)
    return random_voice(CONFIG)


def _keys(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def test_the_cache_is_bounded_by_number_and_by_size(tmp_path: Path) -> None:
    """Strangers' clips would fill the disk; what was used last must stay."""
    cache = VoiceCache(tmp_path, max_voices=3)
    for index, key in enumerate("abc"):
        cache.put(key, _voice(index))
        os.utime(tmp_path / f"{key}.safetensors", ns=(index, index))
    assert cache.get("a", CONFIG) is not None
    cache.put("d", _voice(4))
    assert _keys(tmp_path) == {"a", "c", "d"}
    size = (tmp_path / "d.safetensors").stat().st_size
    VoiceCache(tmp_path, max_bytes=2 * size).put("e", _voice(5))
    assert len(_keys(tmp_path)) == 2
    assert "e" in _keys(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 != 0o777


def test_a_broken_cached_voice_is_made_again(tmp_path: Path) -> None:
    """Half a file, after a full disk say, must not be an error for ever."""
    cache = VoiceCache(tmp_path / "cache")
    assert cache.get("a", CONFIG) is None
    cache.put("a", _voice(1))
    path = tmp_path / "cache" / "a.safetensors"
    assert path.parent.stat().st_mode & 0o077 == 0, "how somebody sounds is private"
    path.write_bytes(path.read_bytes()[:100])
    assert cache.get("a", CONFIG) is None
    assert not path.exists()


def test_a_failed_voice_leaves_the_old_one(checkpoint: Path, tmp_path: Path) -> None:
    """A voice is whole or not there: the daemon may load the file at any moment."""
    folder, config = find_checkpoint(str(checkpoint))
    cloner, out = Cloner(folder, config), tmp_path / "voice.safetensors"
    cloner.clone(write_clip(tmp_path / "clip.ogg"), out)
    before = out.read_bytes()
    with pytest.raises(VoiceError, match="more than 1 s"):
        cloner.clone(write_clip(tmp_path / "short.wav", 0.9), out)
    with pytest.raises(VoiceError, match="no such file"):
        cloner.clone(tmp_path / "absent.wav", out)
    with pytest.raises(VoiceError, match="is a folder"):
        cloner.clone(tmp_path, out)
    assert out.read_bytes() == before


def test_who_can_clone_is_seen_from_headers(checkpoint: Path, tmp_path: Path) -> None:
    """The daemon tells clients at once; it must not load a gigabyte to know."""
    assert can_clone(checkpoint, LISTENING)
    folder, config = find_checkpoint(None)
    assert not can_clone(folder, config)
    assert load_conditioner(checkpoint, LISTENING) is not None
