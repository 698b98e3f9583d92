"""The reference package's side of `reference_s3gen.py`: runs in its own environment, where
`chatterbox` is its package and not ours. A work order in on each line of standard input, one JSON
line out.

    python tests/bench/reference/s3gen.py tools-folder case-seed folder-for-outputs
"""

import contextlib
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

SEED = 1234


class Reference:
    """Base and meanflow S3Gen of the reference, with the made-up weights."""

    def __init__(self, tools: str, case_seed: int) -> None:
        sys.path.insert(0, tools)
        self._seeded = importlib.import_module("seeded_weights").seeded
        self._case_seed = case_seed
        self._models = {meanflow: self._build(meanflow) for meanflow in (False, True)}

    def _build(self, meanflow: bool) -> Any:
        model = importlib.import_module("chatterbox.models.s3gen").S3Gen(meanflow=meanflow)
        own = model.state_dict()
        needed = [name for name in own if name.startswith(("flow.", "mel2wav."))]
        weights = {
            name: self._seeded(name, tuple(own[name].shape), self._case_seed) for name in needed
        }
        model.load_state_dict(weights, strict=False)
        return model.eval()

    def flow(self, order: dict[str, torch.Tensor], *, meanflow: bool) -> torch.Tensor:
        """One call of the flow, from the noise of the order."""
        noise = order["noise"]
        draw = torch.randn_like
        torch.randn_like = lambda *_args, **_kwargs: noise.clone()
        try:
            mel: torch.Tensor
            mel, _ = self._models[meanflow].flow.inference(
                token=order["tokens"],
                token_len=torch.tensor([order["tokens"].shape[1]]),
                prompt_token=order["prompt_tokens"],
                prompt_token_len=torch.tensor([order["prompt_tokens"].shape[1]]),
                prompt_feat=order["prompt_mel"],
                prompt_feat_len=None,
                embedding=order["speaker"],
                finalize=True,
                n_timesteps=2 if meanflow else 10,
                meanflow=meanflow,
            )
        finally:
            torch.randn_like = draw
        return mel

    def vocoder(self, order: dict[str, torch.Tensor]) -> torch.Tensor:
        """Waveform of a mel; the generator's seed is given, so that noise can be drawn alike."""
        torch.manual_seed(SEED)
        wave: torch.Tensor
        wave, _ = self._models[False].mel2wav.inference(speech_feat=order["mel"])
        return wave


@torch.inference_mode()
def main() -> None:
    tools, case_seed, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the reference prints as it works
        reference = Reference(tools, case_seed)
        works = {
            "flow": lambda order: reference.flow(order, meanflow=False),
            "flow_meanflow": lambda order: reference.flow(order, meanflow=True),
            "vocoder": reference.vocoder,
        }
        answers.write("{}\n")
        answers.flush()
        for line in sys.stdin:
            name = line.strip()
            order = load_file(folder / f"{name}.order.safetensors")
            started = time.process_time()
            output = works[name](order)
            seconds = time.process_time() - started
            save_file({"output": output.contiguous()}, folder / f"{name}.reference.safetensors")
            answers.write(json.dumps({"seconds": seconds}) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
