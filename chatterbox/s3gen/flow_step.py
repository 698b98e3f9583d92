"""Windows of speech tokens of many slots → their mel frames, committed to a buffer: one captured
step.

Holds everything that the step reads on its device. Which tokens make a window is decided in
`windows.py`; a row of the `plan` is that decision as integers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from chatterbox.config import MEL_FRAMES_PER_TOKEN, ModelConfig
from chatterbox.s3gen.attention_blocks import PADDING_BLOCK, PROMPT_BLOCK
from chatterbox.s3gen.flow import Flow
from chatterbox.s3gen.noise import NoiseBuffers, flow_offset
from chatterbox.s3gen.windows import TokenSchedule, TokenWindow


class FlowState(nn.Module):
    """Voice condition and committed mel of each slot; written in place only."""

    prompt_tokens: Tensor
    prompt_length: Tensor
    prompt_mel: Tensor
    speaker: Tensor
    noise_offset: Tensor
    mel: Tensor

    def __init__(self, config: ModelConfig, num_slots: int) -> None:
        super().__init__()
        flow = config.flow
        prompt, bins = flow.max_prompt_tokens, flow.mel_bins
        frames = config.t3.max_speech_tokens * MEL_FRAMES_PER_TOKEN
        self._noise_frames = config.noise_frames
        for name, shape in (
            ("prompt_tokens", (num_slots, prompt)),
            ("prompt_length", (num_slots,)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int64), persistent=False)
        self.register_buffer(
            "noise_offset", torch.zeros(num_slots, dtype=torch.int64), persistent=False
        )
        shape_mel = (num_slots, bins, prompt * MEL_FRAMES_PER_TOKEN)
        self.register_buffer("prompt_mel", torch.zeros(shape_mel), persistent=False)
        self.register_buffer("speaker", torch.zeros(num_slots, bins), persistent=False)
        # One frame more than can be committed: what must not be kept is written there.
        self.register_buffer("mel", torch.zeros(num_slots, frames + 1, bins), persistent=False)

    def begin(self, slot: int, *, tokens: Tensor, mel: Tensor, speaker: Tensor, seed: int) -> None:
        """A new segment in `slot`: prompt tokens [prompt], their mel [mel_bins, 2 * prompt],
        speaker [mel_bins].
        """
        length = tokens.shape[0]
        self.prompt_tokens[slot, :length].copy_(tokens)
        self.prompt_length[slot].fill_(length)
        self.prompt_mel[slot].zero_()
        self.prompt_mel[slot, :, : mel.shape[1]].copy_(mel)
        self.speaker[slot].copy_(speaker)
        self.noise_offset[slot].fill_(flow_offset(seed, self._noise_frames))


class FlowStep(nn.Module):
    """The flow over planned windows."""

    block_of_token: Tensor

    def __init__(
        self, flow: Flow, noise: NoiseBuffers, config: ModelConfig, num_slots: int
    ) -> None:
        super().__init__()
        self.flow = flow
        self.noise = noise
        self.state = FlowState(config, num_slots)
        self.block_causal = config.flow.block_causal
        self.new_frames = MEL_FRAMES_PER_TOKEN * max(
            *config.flow.first_windows, config.flow.window_tokens
        )
        schedule = TokenSchedule(config.flow)
        blocks = [
            schedule.window_of(token) if self.block_causal else 0
            for token in range(config.t3.max_speech_tokens + 1)
        ]
        self.register_buffer("block_of_token", torch.tensor(blocks), persistent=False)

    @staticmethod
    def plan_row(slot: int, window: TokenWindow) -> tuple[int, ...]:
        """The integers that describe one window; a row of zeros but for a slot is padding."""
        return slot, window.first, window.context, window.new, window.lookahead

    def forward(self, plan: Tensor, tokens: Tensor, capacity: int) -> None:
        """Solve the windows of `plan` [rows, 5] and commit the mel of their new tokens.

        tokens [slots, longest] are the speech tokens of every slot; `capacity` holds prompt and
        tokens of each row.
        """
        state = self.state
        slot, first, context, new, lookahead = plan.unbind(dim=1)
        prompt = state.prompt_length[slot][:, None]
        index = (
            torch.arange(capacity, device=plan.device)[None, :] - prompt
        )  # of generated tokens, from `first`
        absolute = (first[:, None] + index).clamp(0, tokens.shape[1] - 1)
        in_prompt = index < 0
        prompt_tokens = functional.pad(
            state.prompt_tokens, (0, capacity - state.prompt_tokens.shape[1])
        )[slot]
        window_tokens = torch.where(in_prompt, prompt_tokens, tokens[slot[:, None], absolute])
        prompt_block = PROMPT_BLOCK if self.block_causal else 0
        block = self.block_of_token[absolute].masked_fill(in_prompt, prompt_block)
        block = block.masked_fill(index >= (context + new + lookahead)[:, None], PADDING_BLOCK)
        # What the padding holds must not reach an embedding table.
        window_tokens = window_tokens.masked_fill(block == PADDING_BLOCK, 0)
        mu = self.flow.encode(window_tokens, block)
        solved = block.masked_fill(
            index >= (context + new)[:, None], PADDING_BLOCK
        )  # lookahead has no mel
        mel = self._solve(
            mu, solved.repeat_interleave(MEL_FRAMES_PER_TOKEN, dim=1), slot, first, prompt
        )
        self._commit(mel, slot, prompt[:, 0] + context, first + context, new)

    def _solve(
        self, mu: Tensor, block: Tensor, slot: Tensor, first: Tensor, prompt: Tensor
    ) -> Tensor:
        state, frames = self.state, mu.shape[-1]
        index = torch.arange(frames, device=mu.device)[None, :] - prompt * MEL_FRAMES_PER_TOKEN
        in_prompt = (index < 0)[:, None, :]
        cond = (
            functional.pad(state.prompt_mel, (0, frames - state.prompt_mel.shape[2]))[slot]
            * in_prompt
        )
        position = index + (first * MEL_FRAMES_PER_TOKEN + state.noise_offset[slot])[:, None]
        own_noise = self.noise.flow[:, position % self.noise.flow.shape[1]].transpose(0, 1)
        prompt_noise = functional.pad(self.noise.prompt, (0, frames - self.noise.prompt.shape[1]))
        noise = torch.where(in_prompt, prompt_noise, own_noise)
        return self.flow.solve(noise, block, mu=mu, speaker=state.speaker[slot], cond=cond)

    def _commit(
        self, mel: Tensor, slot: Tensor, source: Tensor, target: Tensor, new: Tensor
    ) -> None:
        """Copy `new` tokens' frames from window token `source` to token `target` of the slot's
        mel.
        """
        offset = torch.arange(self.new_frames, device=mel.device)[None, :]
        taken = (source[:, None] * MEL_FRAMES_PER_TOKEN + offset).clamp_max(mel.shape[-1] - 1)
        values = mel.transpose(1, 2).gather(1, taken[:, :, None].expand(-1, -1, mel.shape[1]))
        scratch = self.state.mel.shape[1] - 1
        is_new = offset < (new * MEL_FRAMES_PER_TOKEN)[:, None]
        kept = (target[:, None] * MEL_FRAMES_PER_TOKEN + offset).masked_fill(~is_new, scratch)
        self.state.mel.index_put_((slot[:, None], kept), values)
