"""Speech tokens → mel frames (flow matching) → waveform (HiFT)."""
