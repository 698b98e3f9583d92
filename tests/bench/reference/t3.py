"""The reference package's side of `reference_t3.py`: runs in its own environment, where
`chatterbox` is its package and not ours. An empty line in, one JSON line with tokens and times out.

    python tests/bench/reference/t3.py tools-folder case-seed variant order-file
"""

import contextlib
import importlib
import json
import sys
import time
from typing import Any

import torch
from safetensors.torch import load_file

Order = dict[str, torch.Tensor]


def build(tools: str, case_seed: int, variant: str) -> Any:
    """The reference's T3 with the made-up weights."""
    sys.path.insert(0, tools)
    seeded = importlib.import_module("seeded_weights").seeded
    config = importlib.import_module("chatterbox.models.t3.modules.t3_config").T3Config()
    if variant == "turbo":
        config.text_tokens_dict_size = 50276
        config.llama_config_name = "GPT2_medium"
        config.speech_tokens_dict_size = 6563
        config.input_pos_emb = None
        config.speech_cond_prompt_len = 375
        config.use_perceiver_resampler = False
        config.emotion_adv = False
    model = importlib.import_module("chatterbox.models.t3").T3(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    weights = {name: seeded(name, shape, case_seed) for name, shape in shapes.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def generate(model: Any, variant: str, order: Order) -> torch.Tensor:
    """So many tokens as the order says, as its own pipeline asks for them."""
    condition = importlib.import_module("chatterbox.models.t3.modules.cond_enc").T3Cond(
        speaker_emb=order["speaker"],
        cond_prompt_speech_tokens=order["prompt"],
        emotion_adv=order["exaggeration"].view(1, 1, 1),
    )
    steps, temperature = int(order["steps"]), float(order["temperature"])
    if variant == "turbo":
        # It draws one token more than it is asked for.
        drawn: torch.Tensor = model.inference_turbo(
            condition, order["text"], temperature=temperature, max_gen_len=steps - 1
        )
        return drawn
    tokens: torch.Tensor = model.inference(
        t3_cond=condition,
        text_tokens=order["text"].expand(2, -1),
        max_new_tokens=steps,
        temperature=temperature,
        cfg_weight=float(order["cfg_weight"]),
        top_p=1.0,
    )
    return tokens


@torch.inference_mode()
def main() -> None:
    tools, case_seed, variant, path = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the reference prints as it works
        model = build(tools, case_seed, variant)
        order = load_file(path)
        marks: list[float] = []
        model.speech_head.register_forward_hook(lambda *_: marks.append(time.process_time()))
        answers.write("{}\n")
        answers.flush()
        for _ in sys.stdin:
            marks.clear()
            started = time.process_time()
            tokens = generate(model, variant, order)
            ended = time.process_time()
            answer = {"tokens": tokens.flatten().tolist(), "marks": [started, *marks, ended]}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
