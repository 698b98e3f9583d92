"""Parsed arguments in, one stage of the training run: what it reads, its budget, what it writes.

The order is data → vocoder, tokens → decoder, t3 → export. With `--start` the weights of a
checkpoint are trained on. Every stage can be interrupted and run
again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chatterbox.checkpoint import load_s3gen, load_t3
from chatterbox.config import ModelConfig
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.t3.model import T3
from chatterbox.training import corpus, encode, export
from chatterbox.training.dataset import SpeechData
from chatterbox.training.flow import OPTIMISATION as DECODER_OPTIMISATION
from chatterbox.training.flow import STRETCH_TOKENS, DecoderStage, DecoderTrainee, StretchMaker
from chatterbox.training.loop import Budget, load_trained, train
from chatterbox.training.speed import fast_training
from chatterbox.training.symbols import symbol_ids
from chatterbox.training.t3 import OPTIMISATION as T3_OPTIMISATION
from chatterbox.training.t3 import T3Stage, T3Trainee, used_codes
from chatterbox.training.vocoder import OPTIMISATION as VOCODER_OPTIMISATION
from chatterbox.training.vocoder import VocoderStage
from chatterbox.training.voice import PROMPT_TOKENS, VoicePrompt, load_prompt, make_prompt

DEFAULT_MINUTES = {"data": 60.0, "vocoder": 40.0, "decoder": 90.0, "t3": 90.0}
SMALL_STEPS = 3
SMALL_TEXTS = 40
LONGEST_TOKENS = PROMPT_TOKENS + STRETCH_TOKENS


class Run:
    """One training run: its folder, its sizes and its budgets."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.work: Path = arguments.work
        self.config = ModelConfig.load(arguments.config)
        self.device: str = arguments.device
        self.seed: int = arguments.seed

    @property
    def state(self) -> Path:
        return self.work / "state"

    def budget(self, stage: str) -> Budget:
        steps = SMALL_STEPS if self.arguments.small else self.arguments.steps
        return Budget(minutes=self.arguments.minutes or DEFAULT_MINUTES[stage], steps=steps)

    def data(self) -> SpeechData:
        return SpeechData(self.work / "data")

    def prompt(self) -> VoicePrompt:
        path = self.work / "prompt.npz"
        if not path.exists():
            make_prompt(path)
        return load_prompt(path)

    def tokens(self) -> list[NDArray[np.int16]]:
        return encode.load_tokens(self.state / "tokens.npy", self.data())

    def committed(self) -> tuple[Flow, HiFT]:
        """The weights to start from."""
        return load_s3gen(self.arguments.start, self.config)


def make_data(run: Run) -> None:
    from chatterbox.training import teacher

    arguments = run.arguments
    num_texts = SMALL_TEXTS if arguments.small else arguments.texts
    texts = corpus.training_texts(arguments.wordnet, num_texts=num_texts, seed=run.seed)
    minutes = arguments.minutes or DEFAULT_MINUTES["data"]
    per_shard = num_texts // 2 if arguments.small else teacher.CLIPS_PER_SHARD
    teacher.make_data(
        texts,
        run.work / "data",
        workers=arguments.workers,
        minutes=minutes,
        clips_per_shard=per_shard,
    )


def train_vocoder(run: Run) -> None:
    stage = VocoderStage(
        run.data(), run.config.vocoder, batch=run.arguments.batch or 12, device=run.device
    )
    if run.arguments.start is not None:
        stage.model.load_state_dict(run.committed()[1].state_dict())
    train(
        "vocoder",
        stage.model,
        stage,
        folder=run.state,
        budget=run.budget("vocoder"),
        optimisation=VOCODER_OPTIMISATION,
        seed=run.seed,
    )


def make_tokens(run: Run) -> None:
    """The tokens of the whole corpus."""
    encode.save_tokens(run.state / "tokens.npy", encode.encode_clips(run.data()))


def train_decoder(run: Run) -> None:
    prompt, data = run.prompt(), run.data()
    trainee = DecoderTrainee(run.config.flow, LONGEST_TOKENS)
    if run.arguments.start is not None:
        trainee.unfold(run.committed()[0])
    maker = StretchMaker(
        data, run.tokens(), run.config.flow, prompt, batch=run.arguments.batch or 12
    )
    with fast_training():
        train(
            "decoder",
            trainee,
            DecoderStage(maker, trainee, prompt, device=run.device),
            folder=run.state,
            budget=run.budget("decoder"),
            optimisation=DECODER_OPTIMISATION,
            seed=run.seed,
            matrices=trainee.matrices(),
        )


def train_t3(run: Run) -> None:
    trainee = T3Trainee(run.config.t3)
    if run.arguments.start is not None:
        start = load_t3(run.arguments.start, run.config)
        assert isinstance(start, T3), "the bundled voice has a GPT-2 backbone"
        trainee.unfold(start)
    stage = T3Stage(
        run.data(),
        run.tokens(),
        trainee,
        prompt=run.prompt(),
        symbols=symbol_ids(),
        device=run.device,
    )
    with fast_training():
        train(
            "t3",
            trainee,
            stage,
            folder=run.state,
            budget=run.budget("t3"),
            optimisation=T3_OPTIMISATION,
            seed=run.seed,
            matrices=trainee.matrices(),
        )


def export_checkpoint(run: Run) -> None:
    """The checkpoint folder from whatever the stages have saved so far."""
    prompt, trainee = run.prompt(), T3Trainee(run.config.t3)
    decoder = DecoderTrainee(run.config.flow, LONGEST_TOKENS)
    vocoder = VocoderStage.model_of(run.config.vocoder)
    load_trained("t3", trainee, run.state)
    load_trained("vocoder", vocoder, run.state)
    load_trained("decoder", decoder, run.state)
    trainee.restrict(used_codes(run.tokens(), prompt))
    out: Path = run.arguments.out
    export.write_checkpoint(out, t3=trainee.folded(), flow=decoder.folded(), vocoder=vocoder)
    export.write_voice(out, prompt, run.config.t3)
    export.write_config(run.arguments.config, out)


STAGES: dict[str, Callable[[Run], None]] = {
    "data": make_data,
    "vocoder": train_vocoder,
    "tokens": make_tokens,
    "decoder": train_decoder,
    "t3": train_t3,
    "export": export_checkpoint,
}


def run_stages(arguments: argparse.Namespace) -> None:
    """Run one stage, or all of them in order."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    run = Run(arguments)
    for name in STAGES if arguments.stage == "all" else [arguments.stage]:
        STAGES[name](run)
