"""Variant name in, a checkpoint folder out: laid out and sized like the official one, with made-up
weights.

For whoever lacks the real weights and wants to try loading, shapes, memory and speed. Every weight
is a function of its name (`tools/seeded_weights.py`), the vocabulary is a few words, and what it
says is noise.

    python tools/make_seeded_checkpoint.py --variant turbo --out DIR
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chatterbox.config import SPEECH_CODES, ModelConfig  # noqa: E402  # found from here on
from chatterbox.variants import VARIANTS  # noqa: E402
from tools.seeded_weights import model_shapes, seeded  # noqa: E402

MANIFEST = ROOT / "tests" / "golden" / "manifest.json"
WORDS = ROOT / "tests" / "bench" / "sentences.txt"
TAGS = (
    "angry,fear,surprised,whispering,advertisement,dramatic,narration,crying,happy,sarcastic,"
    "clear throat,sigh,shush,cough,groan,sniff,gasp,chuckle,laugh"
)
GPT2_TOKENS = 50_257
PROMPT_TOKENS = {"english": 157, "multilingual": 157, "gpt2": 250}
"""Of the flow's prompt in the official `conds.pt`."""


def write_weights(folder: Path, config: ModelConfig, manifest: dict[str, Any]) -> None:
    """T3, S3Gen and the voice encoder, every tensor that the official files hold."""
    t3 = {"multilingual_v2": "t3_multilingual", "multilingual_v3": "t3_multilingual"}
    t3 |= {"english": "t3", "turbo": "t3_turbo", "nano": "t3_nano"}
    for model, name in (
        (t3[config.name], config.files.t3),
        ("s3gen_meanflow" if config.flow.meanflow else "s3gen", config.files.s3gen),
        ("ve", "ve.safetensors"),
    ):
        tensors = {
            key: seeded(key, shape, manifest["case_seed"])
            for key, shape in model_shapes(manifest, model).items()
        }
        save_file(tensors, folder / name)


def write_vocabulary(folder: Path, config: ModelConfig) -> None:
    """A few words of English in the files and the numbering of the official tokenizer."""
    lines = WORDS.read_text(encoding="utf-8").splitlines()
    if config.text.front_end == "gpt2":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=GPT2_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(lines, trainer)
        tokenizer.model.save(str(folder))
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        spare = range(len(vocabulary), GPT2_TOKENS)
        vocabulary |= {f"<filler {token}>": token for token in spare}
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        tags = {f"[{tag}]": GPT2_TOKENS + index for index, tag in enumerate(TAGS.split(","))}
        (folder / "added_tokens.json").write_text(json.dumps(tags), encoding="utf-8")
        return
    marks = ["[STOP]", "[UNK]", "[SPACE]", *(f"[{language}]" for language in config.languages)]
    characters = [*map(chr, range(33, 127)), *"äöüßéèêçñ"]
    fillers = [f"<filler {token}>" for token in range(255 - len(marks) - len(characters))]
    pieces = [*marks, *characters, *fillers, "[START]"]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="[UNK]")
    )
    tokenizer.add_special_tokens([*marks, "[START]"])
    tokenizer.save(str(folder / config.text.vocabulary))


def write_voice(folder: Path, config: ModelConfig) -> None:
    """`conds.pt` with the shapes of the official one."""
    generator = torch.Generator().manual_seed(0)
    prompt = PROMPT_TOKENS[config.text.front_end]
    speaker = torch.randn(1, 256, generator=generator).relu()
    conds = {
        "t3": {
            "speaker_emb": speaker / speaker.norm(),
            "cond_prompt_speech_tokens": torch.randint(
                0, SPEECH_CODES, (1, config.t3.prompt_tokens), generator=generator
            ),
            "emotion_adv": torch.full((1, 1, 1), 0.5),
        },
        "gen": {
            "prompt_token": torch.randint(0, SPEECH_CODES, (1, prompt), generator=generator),
            "prompt_token_len": torch.tensor([prompt]),
            "prompt_feat": torch.randn(1, 80, 2 * prompt, generator=generator).transpose(1, 2) - 5,
            "prompt_feat_len": None,
            "embedding": torch.randn(1, 192, generator=generator),
        },
    }
    torch.save(conds, folder / "conds.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help="of the parity fixtures")
    arguments = parser.parse_args()
    config = VARIANTS[arguments.variant]
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_weights(arguments.out, config, json.loads(arguments.manifest.read_text(encoding="utf-8")))
    write_vocabulary(arguments.out, config)
    write_voice(arguments.out, config)


if __name__ == "__main__":
    main()
