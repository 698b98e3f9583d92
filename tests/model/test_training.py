"""The training of the bundled voice on seconds of made-up sound: the machinery, not the quality."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.checkpoint import load_s3gen, load_t3
from chatterbox.config import SPEECH_CODES, ConfigError, FlowConfig, ModelConfig
from chatterbox.loading import load_token_phonemes
from chatterbox.s3gen.vocoder import HiFT
from chatterbox.s3gen.windows import TokenSchedule
from chatterbox.t3.model import T3, causal_bias
from chatterbox.token_names import LEVELS
from chatterbox.training import stages
from chatterbox.training.curves import read_log
from chatterbox.training.dataset import SpeechData
from chatterbox.training.export import write_config
from chatterbox.training.flow import DecoderTrainee, schedule_starts
from chatterbox.training.loop import Budget, Optimisation, Optimizers, load_trained, train
from chatterbox.training.mel import log_mel
from chatterbox.training.recogniser import at_hearing_rate, word_errors, words_of
from chatterbox.training.speed import fast_training
from chatterbox.training.symbols import PHONEMES, symbol_ids, symbol_table
from chatterbox.training.t3 import IGNORED, T3Stage, T3Trainee, t3_speaker, used_codes
from chatterbox.training.teacher import TOKEN_SAMPLES, Clip, save_shard, sound_span
from chatterbox.training.tokenizer import STATES_FILE, Codebook, Timing, TokenTable
from chatterbox.training.vocoder import VocoderStage
from chatterbox.training.voice import PROMPT_TOKENS, VoicePrompt
from chatterbox.voice import load_voice

SIZES = {
    "name": "test",
    "text": {"symbols": []},
    "t3": {
        **{"layers": 3, "channels": 32, "heads": 4, "mlp_channels": 64, "positions": 512},
        **{"text_vocab": 128, "speaker_channels": 4, "prompt_tokens": 8},
        "speech_positions_from": 210,
        **{"max_text_tokens": 200, "max_speech_tokens": 200},
    },
    "flow": {
        **{"speaker_channels": 16, "encoder_channels": 32, "encoder_heads": 2},
        **{"encoder_mlp_channels": 32, "encoder_blocks": 1, "upsampled_blocks": 1},
        **{"estimator_channels": 32, "estimator_heads": 2, "estimator_head_channels": 16},
        **{"estimator_transformers": 1, "estimator_mid_stages": 1, "meanflow": False},
        **{"steps": 2, "block_causal": True, "context_tokens": 25},
        "max_prompt_tokens": PROMPT_TOKENS,
    },
    "vocoder": {
        **{"base_channels": 16, "upsample_rates": [4, 2], "upsample_kernels": [8, 4]},
        **{"n_fft": 240, "hop": 60, "resblock_kernels": [3], "resblock_dilations": [[1]]},
        "source_resblock_kernels": [3, 3],
        "source_resblock_dilations": [[1], [1]],
        **{"f0_channels": 16, "directed_phase": True, "aligned_harmonics": True},
    },
}


def made_up_clip(rng: np.random.Generator, num_tokens: int) -> Clip:
    """A buzz with a hum in its pitch, and as many phonemes as tokens."""
    time_s = np.arange(num_tokens * TOKEN_SAMPLES) / 24_000
    f0 = 180 + 20 * np.sin(2 * np.pi * time_s)
    wave = 0.2 * np.sign(np.sin(2 * np.pi * np.cumsum(f0) / 24_000)) * rng.uniform(0.5, 1)
    letters = rng.choice(list(PHONEMES[:40]), size=num_tokens)
    return Clip(
        text="made up",
        phonemes="".join(letters),
        ends=(np.arange(1, num_tokens + 1) / 25).astype(np.float32),
        wave=(wave * 32767).astype(np.int16),
        mel=log_mel(wave.astype(np.float32)).astype(np.float16),
        f0=f0[240::480].astype(np.float16),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> argparse.Namespace:
    """Every stage but the teacher, three steps each."""
    work = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    for number in range(2):
        clips = [made_up_clip(rng, int(rng.integers(20, 70))) for _ in range(12)]
        save_shard(work / "data" / f"shard-{number:04d}", clips)
    prompt = made_up_clip(rng, PROMPT_TOKENS).timing
    np.savez(
        work / "prompt.npz",
        wave=prompt.wave,
        f0=prompt.f0,
        ends=prompt.ends,
        phonemes=np.array(prompt.phonemes),
    )
    config = work / "sizes.json"
    config.write_text(json.dumps(SIZES), encoding="utf-8")
    arguments = argparse.Namespace(
        **{"work": work, "config": config, "out": work / "out", "minutes": None, "steps": None},
        **{"batch": 2, "threads": 1, "device": "cpu", "seed": 1, "small": True},
        start=None,
    )
    for stage in ("vocoder", "tokens", "decoder", "t3", "export"):
        arguments.stage = stage
        stages.run_stages(arguments)
    return arguments


def test_export_loads_as_a_checkpoint(trained: argparse.Namespace) -> None:
    """Guards the hand-over: names, shapes and tables must be what the strict loader wants."""
    folder: Path = trained.out
    config = ModelConfig.load(folder / "config.json")
    assert config.text.symbols == symbol_table()
    flow, vocoder = load_s3gen(folder, config)
    voice = load_voice(folder / "voices" / "heart.safetensors", config)
    assert voice.prompt_tokens.shape == (1, PROMPT_TOKENS)
    assert voice.t3_prompt.shape == (1, config.t3.prompt_tokens)
    made = flow.encode(voice.prompt_tokens, torch.full((1, PROMPT_TOKENS), -1))
    assert made.isfinite().all()
    trainee = DecoderTrainee(config.flow, stages.LONGEST_TOKENS)
    load_trained("decoder", trainee, trained.work / "state")
    for name, tensor in trainee.folded().state_dict().items():
        torch.testing.assert_close(flow.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    assert vocoder.f0_predictor.classifier.weight.dtype == torch.float64


def test_stages_start_from_a_checkpoint(trained: argparse.Namespace) -> None:
    """Guards training on from committed weights, where no training state is left."""
    run = stages.Run(trained)
    flow, vocoder = load_s3gen(trained.out, run.config)
    decoder = DecoderTrainee(run.config.flow, stages.LONGEST_TOKENS)
    decoder.unfold(flow)
    tokens, block = torch.tensor([[3, 700, 6560]]), torch.zeros(1, 3, dtype=torch.long)
    torch.testing.assert_close(decoder.mu(tokens, block), flow.encode(tokens, block))
    t3, trainee = load_t3(trained.out, run.config), T3Trainee(run.config.t3)
    assert isinstance(t3, T3)
    trainee.unfold(t3)
    expected = {name: tensor.clone() for name, tensor in t3.state_dict().items()}
    for name, tensor in trainee.folded().state_dict().items():
        if name != "speech_head.bias":
            torch.testing.assert_close(tensor, expected[name])
    again = argparse.Namespace(**{**vars(trained), "work": trained.work / "again"})
    again.start = trained.out
    (again.work / "state").mkdir(parents=True)
    for name in ("data", "prompt.npz", "state/tokens.npy"):
        (again.work / name).symlink_to(trained.work / name)
    for stage in ("vocoder", "decoder", "t3"):
        again.stage = stage
        stages.run_stages(again)
    started = VocoderStage.model_of(run.config.vocoder)
    load_trained("vocoder", started, again.work / "state")
    for name, tensor in vocoder.state_dict().items():
        ours = started.state_dict()[name].to(tensor.dtype)
        torch.testing.assert_close(ours, tensor, atol=0.02, rtol=0.02, msg=name)


def test_exported_t3_predicts_as_the_trained_one(trained: argparse.Namespace) -> None:
    """Guards the folding of the structured token tables into ordinary embedding and head."""
    run = stages.Run(trained)
    trainee = T3Trainee(run.config.t3)
    load_trained("t3", trainee, run.state)
    exported = load_t3(trained.out, run.config)
    assert isinstance(exported, T3)
    text = torch.tensor([[5, 6, 7]])
    codes = used_codes(run.tokens(), run.prompt())
    speech = torch.tensor([[6561, int(codes[0]), int(codes[1])]])
    prompt = torch.arange(8)[None]
    condition = exported.embed_condition(t3_speaker(run.config.t3)[None], prompt)
    rows = torch.cat([condition, exported.text_emb(text), exported.speech_emb(speech)], dim=1)
    fixed = run.config.t3.speech_positions_from
    learned = torch.tensor([[*range(12), fixed, fixed + 1, fixed + 2]])
    order = torch.arange(15)[None]
    ours = exported.speech_head(exported.tfmr(rows, learned, causal_bias(order, order)))[0, -3:]
    vocab = run.config.t3.text_vocab
    zero = torch.zeros(1, 1, dtype=torch.long)
    ids = torch.cat([zero, prompt + vocab, text, speech + vocab], dim=1)
    hidden, _ = trainee.hidden(ids, t3_speaker(run.config.t3)[None])
    trainee.restrict(codes)
    theirs = trainee.logits(hidden[0, -3:])
    kept = torch.cat([torch.from_numpy(codes), torch.tensor([6561, 6562])])
    torch.testing.assert_close(ours[:, kept], theirs, atol=5e-3, rtol=1e-2)
    others = torch.ones(6563, dtype=torch.bool)
    others[kept] = False
    assert (ours[:, others] < -1000).all(), "codes that no clip has must never be drawn"


def test_t3_rows_ask_for_the_next_token_and_the_stop(trained: argparse.Namespace) -> None:
    """Guards the layout of a row: one position off, and T3 learns to repeat its input."""
    run = stages.Run(trained)
    data = run.data()
    tokens = [np.arange(n // 2, dtype=np.int16) + 100 for n in data.mel_frames]
    stage = T3Stage(
        data,
        tokens,
        T3Trainee(run.config.t3),
        prompt=VoicePrompt(torch.zeros(80, 40), torch.arange(PROMPT_TOKENS), torch.zeros(16)),
        symbols=symbol_ids(),
    )
    batch = stage.batch([0, 1], None)
    stage.losses(batch)
    length, num_phonemes = len(tokens[0]), int(data.num_phonemes[0])
    bos = 9 + num_phonemes
    vocab = run.config.t3.text_vocab
    assert batch.ids[0, bos] == 6561 + vocab
    assert batch.ids[0, bos + 1] == 100 + vocab
    assert batch.targets[0, bos : bos + length].tolist() == list(range(100, 100 + length))
    assert batch.targets[0, bos + length] == 6562
    assert (batch.targets[0, :bos] == IGNORED).all()
    assert (batch.targets[0, bos + length + 1 :] == IGNORED).all()
    # In the made-up clips phoneme i sounds in token i.
    assert batch.spoken[0, bos : bos + length].tolist() == list(range(9, 9 + length))


def _tiny_training(folder: Path, steps: int) -> Tensor:
    torch.manual_seed(0)
    module = nn.Linear(4, 1)

    def loss(rng: np.random.Generator, spent: float) -> tuple[Tensor, dict[str, float]]:
        x = torch.from_numpy(rng.normal(size=(8, 4)).astype(np.float32)) + torch.randn(8, 4)
        value = (module(x) - x.sum(1, keepdim=True)).square().mean()
        return value, {"loss": value.item()}

    train(
        "tiny",
        module,
        loss,
        folder=folder,
        budget=Budget(minutes=1, steps=steps),
        optimisation=Optimisation(peak=0.1, warm_up_steps=1, clip=1e9, betas=(0.9, 0.9)),
        seed=3,
    )
    return module.weight.detach().clone()


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Guards resuming: a finished run stays as it is, and a longer budget goes on from it."""
    first = _tiny_training(tmp_path, 20)
    assert torch.equal(_tiny_training(tmp_path, 20), first)
    state = torch.load(tmp_path / "tiny.pt", weights_only=True)
    assert state["step"] == 20
    longer = _tiny_training(tmp_path, 40)
    assert not torch.equal(longer, first)
    assert torch.load(tmp_path / "tiny.pt", weights_only=True)["step"] == 40


def test_saved_optimizers_know_their_parameters() -> None:
    """Guards resuming after the modules changed their order: a state put to another parameter's
    place once crashed the fused optimizer.
    """
    first, third = nn.Linear(2, 3, bias=False), nn.Linear(5, 7, bias=False)
    wide = nn.ModuleDict({"b": third, "a": first})
    narrow = nn.ModuleDict({"a": first, "b": third})
    old, new = (Optimizers(module, [], Optimisation(peak=0.1)) for module in (narrow, wide))
    (first.weight.sum() + third.weight.sum()).backward()  # type: ignore[no-untyped-call]
    old.step(0.1)
    new.load(old.state())
    new.step(0.1)
    shapes = [tuple(state["exp_avg"].shape) for state in new.state()[0]["state"].values()]  # type: ignore[attr-defined]
    assert shapes == [(3, 2), (7, 5)], "by name: a, then b"


def test_training_learns(tmp_path: Path) -> None:
    """Guards the loop itself: forgotten steps or a wrong sign leave the weights where they were."""
    learnt = _tiny_training(tmp_path, 300)
    torch.testing.assert_close(learnt, torch.ones(1, 4), atol=0.05, rtol=0)


def test_fast_operations_compute_the_same() -> None:
    """Guards the replacements for speed: same values and gradients as torch's own."""
    x = torch.linspace(-30, 30, 601, dtype=torch.float64).requires_grad_()
    query, key, value = (torch.randn(2, 3, 5, 4, requires_grad=True) for _ in range(3))
    mask = torch.randn(2, 1, 5, 5, requires_grad=True)

    def results() -> list[Tensor]:
        mish = functional.mish(x)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        inputs = (x, query, key, value, mask)
        gradients = torch.autograd.grad(mish.sum() + mixed.square().sum(), inputs)
        return [mish, mixed, *gradients]

    expected = results()
    with fast_training():
        for ours, theirs in zip(results(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_directed_phase_follows_the_source(trained: argparse.Namespace) -> None:
    """Guards the bundled vocoder: with nothing to turn it, its phase is that of the source."""
    config = ModelConfig.load(trained.config).vocoder
    vocoder = HiFT(config)
    with torch.no_grad():
        vocoder.conv_post.weight.zero_()
        assert vocoder.conv_post.bias is not None
        nn.init.zeros_(vocoder.conv_post.bias)
        source = 0.1 * torch.randn(1, 1, 4800)
        made = vocoder.decode(torch.randn(1, 80, 10), source)
        spectrum = vocoder.fourier(source)
        real, imaginary = spectrum.chunk(2, dim=1)
        length = (real.square() + imaginary.square()).sqrt()
        expected = vocoder.fourier.inverse(torch.cat([real / length, imaginary / length], dim=1))
    inner = slice(240, -240)
    torch.testing.assert_close(made[:, inner], expected.clamp(-0.99, 0.99)[:, inner])


def test_tokens_say_what_sounds_when() -> None:
    """Guards the tokens: half a token off, and the voice learns to say each sound late."""
    states = Codebook.load().states
    ends = np.array([0.06, 0.10, 0.16], np.float32)
    f0 = np.array([120, 120, 0, 0, 170, 180, 400, 400], np.float32)
    wave = np.full(4 * TOKEN_SAMPLES, 9000, np.int16)
    wave[3 * TOKEN_SAMPLES :] = 0
    tokens = Codebook.load().encode(Timing(phonemes="ən.", ends=ends, f0=f0, wave=wave))
    assert [states[token // LEVELS] for token in tokens] == ["əə", "ən", "n.", ".."]
    assert (tokens % LEVELS).tolist() == [1, 1, 3, 0], "pitch is held, and silence has none"


def test_every_token_has_its_own_meaning() -> None:
    """Guards the codebook: a state that is listed twice, or fills less than the codes there are."""
    codebook = Codebook.load()
    assert len(codebook.states) == len(set(codebook.states)) == SPEECH_CODES // LEVELS
    assert len({tuple(parts) for parts in codebook.parts.tolist()}) == SPEECH_CODES
    for pair in codebook.states:
        assert pair[1] * 2 in codebook.states, "a rare pair falls back on this"


def test_an_exported_voice_keeps_the_names_of_its_tokens(tmp_path: Path) -> None:
    """Guards word times: without them a voice trained again would fall back on an estimate."""
    tiny = STATES_FILE.parent
    write_config(tiny / "config.json", tmp_path)
    config = ModelConfig.load(tmp_path / "config.json")
    exported = load_token_phonemes(tmp_path, config)
    assert exported is not None
    assert np.array_equal(exported[LEVELS * 2], [config.text.symbols.index("ə")] * 2)
    assert (exported >= 0).all(), "every state names phonemes that the front end can write"
    with pytest.raises(ConfigError, match="No such file"):
        load_token_phonemes(tmp_path / "elsewhere", config)


def test_token_table_folds() -> None:
    """Guards the export: the ordinary table must hold what was trained."""
    table = TokenTable(6)
    nn.init.normal_(table.free)
    tokens = torch.tensor([[0, 4000], [17, 6560]])
    torch.testing.assert_close(table.folded()[tokens], table(tokens))
    other = TokenTable(6)
    other.unfold(table.folded())
    torch.testing.assert_close(other(tokens), table(tokens))


def test_training_blocks_are_those_of_inference() -> None:
    """Guards block-causal training: other boundaries than the engine's would be another model."""
    config = FlowConfig(first_windows=(8, 8, 16), window_tokens=24)
    schedule = TokenSchedule(config)
    starts = schedule_starts(config, 120)
    ids = np.searchsorted(starts, np.arange(120), side="right") - 1
    assert ids.tolist() == [schedule.window_of(token) for token in range(120)]


def test_mel_is_the_published_one() -> None:
    """Guards the mel: another scale or padding than upstream's 1920/480/80 makes other frames."""
    rng = np.random.default_rng(0)
    wave = rng.normal(size=4800).astype(np.float32) * 0.1
    padded = functional.pad(torch.from_numpy(wave)[None, None], (720, 720), mode="reflect")[0]
    window = torch.hann_window(1920)
    spectrum = torch.stft(padded, 1920, 480, window=window, center=False, return_complex=True)
    magnitude = (spectrum.abs().square() + 1e-9).sqrt()
    bins = torch.linspace(0, 12_000, 961, dtype=torch.float64)
    # Slaney's scale: 200/3 Hz a mel below 1 kHz, then 27 mels for each factor of 6.4.
    top = 15 + 27 * np.log(8) / np.log(6.4)
    mels = np.linspace(0, top, 82)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    for band in (0, 30, 79):
        low, centre, high = edges[band : band + 3]
        triangle = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
        weights = triangle.clamp_min(0).float() * (2 / (high - low))
        expected = (weights @ magnitude[0]).clamp_min(1e-5).log()
        torch.testing.assert_close(
            torch.from_numpy(log_mel(wave))[:, band], expected, atol=1e-4, rtol=1e-4
        )


def test_clips_start_and_end_with_their_sound() -> None:
    """Guards the trim: a voice trained with leading silence speaks late."""
    samples = np.zeros(24_000, np.float32)
    samples[6000:18_000] = np.sin(np.arange(12_000) / 10)
    start, stop = sound_span(samples)
    assert 6000 - start == pytest.approx(480, abs=120)
    assert stop - 18_000 == pytest.approx(1920, abs=120)


def test_shards_give_back_what_was_saved(tmp_path: Path) -> None:
    """Guards the offsets: an off-by-one would pair each clip with its neighbour's sound."""
    rng = np.random.default_rng(1)
    clips = [made_up_clip(rng, n) for n in (20, 33, 21)]
    for number in range(2):
        save_shard(tmp_path / f"shard-{number:04d}", clips)
    data = SpeechData(tmp_path)
    assert len(data) == 3
    for index, clip in enumerate(clips):
        assert data.phonemes(index) == clip.phonemes
        assert np.array_equal(data.field("wave", index), clip.wave)
        assert np.array_equal(data.field("mel", index), clip.mel)
        assert len(data.field("f0", index)) == len(clip.mel) == data.mel_frames[index]


def test_word_errors_are_counted_as_people_count() -> None:
    """Guards the score: spelling of numbers and case are no errors, lost and added words are."""
    assert words_of("It's 7:30, Dr. Lee!") == words_of("it's seven thirty doctor lee")
    assert words_of("$37.50 in 1987") == words_of("37 dollars 50 in nineteen eighty seven")
    assert words_of("He can't") == ["he", "can", "not"]
    assert word_errors(["a", "b", "c", "d"], ["a", "x", "c"]) == 2
    assert word_errors([], ["a"]) == 1


def test_hearing_rate_keeps_the_tone() -> None:
    """Guards the resampler of the evaluation: a wrong ratio would shift every pitch."""
    tone = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000).astype(np.float32)
    resampled = at_hearing_rate(tone)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert len(resampled) == 16_000
    assert np.abs(resampled - expected).max() < 1e-3


def test_curves_show_what_was_trained(tmp_path: Path) -> None:
    """Guards the picture of the losses: a run begun anew must not be drawn over the old one."""
    log = tmp_path / "t3.jsonl"
    steps = [(100, 3.0), (200, 2.0), (300, 1.9), (200, 1.5), (300, 1.2)]
    lines = [json.dumps({"step": step, "elapsed_s": step, "ce": ce}) for step, ce in steps]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = read_log(log)
    assert [(row["step"], row["ce"]) for row in rows] == [(100, 3.0), (200, 1.5), (300, 1.2)]
