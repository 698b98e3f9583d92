"""A checkpoint folder → the models that make a voice of a clip, strictly."""

from pathlib import Path

from chatterbox.checkpoint import LISTENERS, CheckpointError, filled, read, under
from chatterbox.conditioning.conditionals import Conditioner
from chatterbox.conditioning.speaker_encoder import SpeakerEncoder
from chatterbox.conditioning.speech_tokenizer import SpeechTokenizer
from chatterbox.conditioning.voice_encoder import VoiceEncoder
from chatterbox.config import ModelConfig


def load_conditioner(folder: Path, config: ModelConfig) -> Conditioner:
    """Speech tokenizer, CAM++ and voice encoder of an official checkpoint, float32. Raises
    `CheckpointError`, also for a checkpoint that holds none of them, as the bundled one.
    """
    path = folder / config.files.s3gen
    tensors = read(path, LISTENERS)
    if not tensors:
        raise CheckpointError(f"{path}: no speech tokenizer; this checkpoint cannot clone a voice")
    unknown = sorted(
        name for name in tensors if not name.startswith(("tokenizer.", "speaker_encoder."))
    )
    if unknown:
        raise CheckpointError(f"{path}: unexpected tensor {unknown[0]}; is it an S3Gen checkpoint?")
    encoder_path, sizes = folder / config.files.voice_encoder, config.listening
    return Conditioner(
        config,
        tokenizer=filled(
            lambda: SpeechTokenizer(
                channels=sizes.channels, heads=sizes.heads, blocks=sizes.blocks
            ),
            under("tokenizer.", tensors),
            path,
        ),
        speaker_encoder=filled(SpeakerEncoder, under("speaker_encoder.", tensors), path),
        voice_encoder=filled(
            lambda: VoiceEncoder(config.t3.speaker_channels),
            read(encoder_path, "voice encoder"),
            encoder_path,
        ),
    )
