"""Parsed arguments in, one stage of the training run: what it reads, its budget, what it writes.

The order is data → vocoder, tokens → decoder, t3 → export. Every stage can be interrupted and run
again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chatterbox.config import MEL_FRAMES_PER_TOKEN, ModelConfig
from chatterbox.s3gen.flow import Flow
from chatterbox.training import corpus, encode, export
from chatterbox.training.dataset import SpeechData
from chatterbox.training.flow import (
    DECODER,
    JOINT,
    STRETCH_TOKENS,
    DecoderStage,
    JointModel,
    JointStage,
    StretchMaker,
    matrices,
)
from chatterbox.training.loop import Budget, load_trained, train
from chatterbox.training.speed import fast_training
from chatterbox.training.symbols import symbol_ids, symbol_table
from chatterbox.training.t3 import OPTIMISATION as T3_OPTIMISATION
from chatterbox.training.t3 import T3Stage, T3Trainee, used_codes
from chatterbox.training.tokenizer import tokens_of
from chatterbox.training.vocoder import OPTIMISATION as VOCODER_OPTIMISATION
from chatterbox.training.vocoder import VocoderStage
from chatterbox.training.voice import PROMPT_TOKENS, VoicePrompt, load_prompt, make_prompt

DEFAULT_MINUTES = {"data": 60.0, "vocoder": 40.0, "tokens": 25.0, "decoder": 40.0, "t3": 120.0}
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
        path = self.work / "prompt.npy"
        if not path.exists():
            make_prompt(path)
        return load_prompt(path)

    def joint(self) -> JointModel:
        return JointModel(self.config.flow, len(symbol_table()), LONGEST_TOKENS)

    def prompt_tokens(self, joint: JointModel, prompt: VoicePrompt) -> Tensor:
        with torch.inference_mode():
            tokens = tokens_of(joint.tokenizer(prompt.mel[None]))[0]
        assert len(tokens) * MEL_FRAMES_PER_TOKEN == prompt.mel.shape[1]
        return tokens.clone()

    def speaker(self) -> Tensor:
        """T3's constant speaker vector."""
        speaker = torch.zeros(self.config.t3.speaker_channels)
        speaker[0] = 1.0
        return speaker


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
    train(
        "vocoder",
        stage.model,
        stage,
        folder=run.state,
        budget=run.budget("vocoder"),
        optimisation=VOCODER_OPTIMISATION,
        seed=run.seed,
    )


def train_tokens(run: Run) -> None:
    """Tokenizer and flow together, then the tokens of the whole corpus."""
    prompt, data, model = run.prompt(), run.data(), run.joint()
    maker = StretchMaker(
        data, run.config.flow, prompt, symbol_ids(), batch=run.arguments.batch or 12
    )
    with fast_training():
        train(
            "tokens",
            model,
            JointStage(maker, model, prompt, device=run.device),
            folder=run.state,
            budget=run.budget("tokens"),
            optimisation=JOINT,
            seed=run.seed,
        )
    encode.save_tokens(run.state / "tokens.npy", encode.encode_clips(model.tokenizer, data))


def train_decoder(run: Run) -> None:
    """The flow alone, from where the joint training left it, on tokens that no longer change."""
    prompt, data, joint = run.prompt(), run.data(), run.joint()
    load_trained("tokens", joint, run.state)
    flow = Flow(run.config.flow, LONGEST_TOKENS)
    flow.load_state_dict(joint.flow.state_dict())
    with torch.no_grad():
        flow.input_embedding.weight.copy_(joint.embedding.table())
    tokens = encode.load_tokens(run.state / "tokens.npy", data)
    maker = StretchMaker(
        data, run.config.flow, prompt, symbol_ids(), batch=run.arguments.batch or 12, tokens=tokens
    )
    with fast_training():
        train(
            "decoder",
            flow,
            DecoderStage(maker, flow, prompt, run.prompt_tokens(joint, prompt), device=run.device),
            folder=run.state,
            budget=run.budget("decoder"),
            optimisation=DECODER,
            seed=run.seed,
            matrices=matrices(flow),
        )


def train_t3(run: Run) -> None:
    data, joint, prompt = run.data(), run.joint(), run.prompt()
    load_trained("tokens", joint, run.state)
    trainee = T3Trainee(run.config.t3)
    stage = T3Stage(
        data,
        encode.load_tokens(run.state / "tokens.npy", data),
        trainee,
        prompt_tokens=run.prompt_tokens(joint, prompt).numpy().astype(np.int16),
        speaker=run.speaker(),
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
    prompt, joint, trainee = run.prompt(), run.joint(), T3Trainee(run.config.t3)
    flow = Flow(run.config.flow, LONGEST_TOKENS)
    vocoder = VocoderStage.model_of(run.config.vocoder)
    load_trained("tokens", joint, run.state)
    load_trained("t3", trainee, run.state)
    load_trained("vocoder", vocoder, run.state)
    load_trained("decoder", flow, run.state)
    prompt_tokens = run.prompt_tokens(joint, prompt)
    tokens = encode.load_tokens(run.state / "tokens.npy", run.data())
    trainee.restrict(used_codes(tokens, prompt_tokens.numpy().astype(np.int16)))
    out: Path = run.arguments.out
    export.write_checkpoint(out, t3=trainee.folded(), flow=flow, vocoder=vocoder)
    export.write_voice(out, prompt, prompt_tokens, run.speaker(), run.config.t3)
    export.write_config(run.arguments.config, out)


STAGES: dict[str, Callable[[Run], None]] = {
    "data": make_data,
    "vocoder": train_vocoder,
    "tokens": train_tokens,
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
