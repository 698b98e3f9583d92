"""Clip → 256 numbers of its speaker: the LSTM that T3 is conditioned on.

Parameter names are those of the official `ve.safetensors`. Source: generalised end-to-end speaker
verification (Wan et al., 2018).
"""

from torch import Tensor, nn
from torch.nn import functional

from chatterbox.conditioning.mel import LOW_RATE, VOICE_ENCODER_HOP, VOICE_ENCODER_MELS

WINDOW_FRAMES = 160
MIN_COVERAGE = 0.8
"""A last window that is filled less than this is dropped."""
_WINDOWS_PER_S = 1.3
STEP_FRAMES = round(LOW_RATE / _WINDOWS_PER_S / VOICE_ENCODER_HOP)


class VoiceEncoder(nn.Module):
    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.lstm = nn.LSTM(VOICE_ENCODER_MELS, channels, num_layers=3, batch_first=True)
        self.proj = nn.Linear(channels, channels)

    def forward(self, mel: Tensor, step_frames: int = STEP_FRAMES) -> Tensor:
        """Mel of one clip [40, frames], see `voice_encoder_mel` → embedding [1, 256] of
        length 1.
        """
        windows = windows_of(mel, step_frames)
        return functional.normalize(self.embed(windows).mean(dim=0, keepdim=True), dim=1)

    def embed(self, windows: Tensor) -> Tensor:
        """[windows, 160, 40] → [windows, 256], each of length 1."""
        _, (hidden, _) = self.lstm(windows)
        return functional.normalize(functional.relu(self.proj(hidden[-1])), dim=1)


def windows_of(mel: Tensor, step_frames: int) -> Tensor:
    """Overlapping windows [windows, 160, 40] of [40, frames], the last one filled up with zeros."""
    frames = mel.shape[1]
    count, rest = divmod(max(frames - WINDOW_FRAMES + step_frames, 0), step_frames)
    covered = (rest + WINDOW_FRAMES - step_frames) / WINDOW_FRAMES
    if count == 0 or covered >= MIN_COVERAGE:
        count += 1
    needed = WINDOW_FRAMES + step_frames * (count - 1)
    padded = functional.pad(mel, (0, max(0, needed - frames)))[:, :needed]
    return padded.unfold(1, WINDOW_FRAMES, step_frames).permute(1, 2, 0)
