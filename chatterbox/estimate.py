"""The name of a checkpoint → what loading it would take: files, parameters, memory, and how many
slots fit. Reads headers and builds modules without memory; loads nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from chatterbox.checkpoint import (
    S3GEN_PARTS,
    Shape,
    compare,
    folded_shapes,
    kept,
    module_shapes,
    refuse_strangers,
    shapes,
    t3_kind,
    under,
)
from chatterbox.config import MEL_FRAMES_PER_TOKEN, ConfigError, ModelConfig
from chatterbox.device.precision import DTYPES, set_precision
from chatterbox.engine import ChatterboxEngine
from chatterbox.loading import OFFICIAL_VOICE, load_all_voices, load_front_end
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.stages import WIDEST_WINDOW_BATCH
from chatterbox.t3.build import build_t3
from chatterbox.t3.predictor import TokenPredictor
from chatterbox.text.front_end import FrontEnd
from chatterbox.variants import find_checkpoint

LIVING_SCORES = 7
"""Most tensors of the size [rows, heads, frames, frames] that the encoder's attention holds at a
time: scores by distance are twice as wide, and shifting them takes two copies."""
SPARE_BYTES = 2**30
"""Left free for what a step computes in between, for kernels and for the rest of the process."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Sizes in bytes, counts of parameters."""

    name: str
    folder: Path
    voices: Sequence[str]
    files: Mapping[str, int]
    parameters: Mapping[str, int]
    dropped_parameters: int
    weights_bytes: int
    fixed_bytes: int
    slot_bytes: int
    graphs_bytes: int
    """What captured steps compute in, all of them in turn; 0 where nothing is captured."""
    available_bytes: int
    device: str
    num_slots: int

    @property
    def slots_that_fit(self) -> int:
        """Slots that the available memory holds beside the weights."""
        room = self.available_bytes - self.weights_bytes - self.fixed_bytes
        room -= self.graphs_bytes + SPARE_BYTES
        return max(0, room // self.slot_bytes)

    @property
    def fits(self) -> bool:
        return self.num_slots <= self.slots_that_fit

    def __str__(self) -> str:
        lines = [f"model       {self.name} in {self.folder}"]
        lines.append(f"voices      {', '.join(self.voices)}")
        lines += [f"file        {name}  {_size(size)}" for name, size in self.files.items()]
        lines += [
            f"parameters  {part}  {count / 1e6:.1f} M" for part, count in self.parameters.items()
        ]
        lines += [
            f"parameters  not loaded  {self.dropped_parameters / 1e6:.1f} M",
            f"memory      weights  {_size(self.weights_bytes)}",
            f"memory      whatever the slots  {_size(self.fixed_bytes)}",
            f"memory      each slot  {_size(self.slot_bytes)}",
            f"memory      captured steps  {_size(self.graphs_bytes)}",
            f"memory      available on {self.device}  {_size(self.available_bytes)},"
            f" of which {_size(SPARE_BYTES)} stay free",
            f"slots       {self.slots_that_fit} fit; --slots {self.num_slots}"
            f" {'does' if self.fits else 'does NOT'}",
        ]
        return "\n".join(lines)


class TooManySlots(ConfigError):
    """More slots than the device has memory for."""


def require_slots_fit(
    model: str | None,
    *,
    num_slots: int,
    dtype: str,
    offline: bool = False,
    extra_voices: Path | None = None,
) -> None:
    """On a GPU, raises `TooManySlots` before anything is loaded; a processor has memory to swap."""
    if torch.cuda.is_available():
        found = estimate(
            model, num_slots=num_slots, dtype=dtype, offline=offline, extra_voices=extra_voices
        )
        if not found.fits:
            raise TooManySlots(
                f"--slots {num_slots} needs more memory than {found.device} has free;"
                f" {found.slots_that_fit} fit (--dry-run says why)"
            )


def estimate(
    model: str | None,
    *,
    num_slots: int,
    dtype: str = "float32",
    offline: bool = False,
    extra_voices: Path | None = None,
) -> Estimate:
    """Raises what loading would raise over files that are missing or do not fit."""
    folder, config = find_checkpoint(model, offline=offline)
    found = {path: shapes(path) for path in (folder / config.files.t3, folder / config.files.s3gen)}
    parameters = _checked(config, folder, found)
    voices = load_all_voices(folder, config, extra_voices)
    front_end = load_front_end(folder, config)
    one, two = (_state_bytes(config, front_end, slots, dtype) for slots in (1, 2))
    device, available = _available()
    loaded = sum(parameters.values())
    return Estimate(
        name=config.name,
        folder=folder,
        voices=sorted(voices),
        files=_files(folder, config),
        parameters=parameters,
        dropped_parameters=sum(_count(tensors) for tensors in found.values()) - loaded,
        weights_bytes=sum(
            weight.numel() * weight.element_size()
            for module in _empty_modules(config, dtype)
            for weight in module.parameters()
        ),
        fixed_bytes=2 * one - two,
        slot_bytes=two - one,
        graphs_bytes=_graphs_bytes(config, num_slots, dtype) if torch.cuda.is_available() else 0,
        available_bytes=available,
        device=device,
        num_slots=num_slots,
    )


def _checked(
    config: ModelConfig, folder: Path, found: Mapping[Path, Mapping[str, Shape]]
) -> dict[str, int]:
    """Parameters of each part, once both files are known to be those of the config."""
    wanted = module_shapes(config)
    t3, s3gen = folder / config.files.t3, folder / config.files.s3gen
    t3_found = {name: found[t3][name] for name in kept(list(found[t3]), t3_kind(config))}
    compare(wanted.t3, t3_found, t3)
    s3gen_found = folded_shapes(
        {name: found[s3gen][name] for name in kept(list(found[s3gen]), "s3gen")}
    )
    refuse_strangers(s3gen_found, s3gen)
    compare(wanted.s3gen, s3gen_found, s3gen)
    flow, vocoder = (_count(under(part, s3gen_found)) for part in S3GEN_PARTS)
    return {"T3": _count(t3_found), "flow": flow, "vocoder": vocoder}


def _count(tensors: Mapping[str, Shape]) -> int:
    return sum(math.prod(shape) for shape in tensors.values())


def _files(folder: Path, config: ModelConfig) -> dict[str, int]:
    paths = [folder / config.files.t3, folder / config.files.s3gen, folder / OFFICIAL_VOICE]
    paths += sorted((folder / "voices").glob("*.safetensors"))
    return {str(path.relative_to(folder)): path.stat().st_size for path in paths if path.is_file()}


def _empty_modules(config: ModelConfig, dtype: str) -> tuple[TokenPredictor, Flow, HiFT]:
    """Modules without memory, in the precision that loading gives them."""
    with torch.device("meta"):
        t3, flow, vocoder = build_t3(config.t3), Flow(config.flow), HiFT(config.vocoder)
    vocoder.f0_predictor.double()
    set_precision(t3, flow, vocoder, dtype)
    return t3, flow, vocoder


def _graphs_bytes(config: ModelConfig, num_slots: int, dtype: str) -> int:
    """The largest attention scores decide: those of the flow's encoder, at the mel frame rate, in
    the widest batch of the longest windows.
    """
    frames = MEL_FRAMES_PER_TOKEN * config.flow.max_window_tokens
    rows = min(num_slots, WIDEST_WINDOW_BATCH)
    scores = rows * config.flow.encoder_heads * frames * frames
    return LIVING_SCORES * scores * DTYPES[dtype].itemsize


def _state_bytes(config: ModelConfig, front_end: FrontEnd, num_slots: int, dtype: str) -> int:
    """What an engine keeps beside its weights, from one that has neither weights nor memory."""
    engine = ChatterboxEngine(
        config,
        *_empty_modules(config, dtype),
        voices={},
        front_end=front_end,
        num_slots=num_slots,
        device=torch.device("meta"),
    )
    return engine.state_bytes


def _available() -> tuple[str, int]:
    """Where the engine would run, and how much memory is free there."""
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return torch.cuda.get_device_name(), free
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return "the processor", 1024 * int(line.split()[1])
    raise OSError("/proc/meminfo tells no MemAvailable; --dry-run needs Linux")


def _size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
