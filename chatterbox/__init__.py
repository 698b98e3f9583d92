"""The Chatterbox speech model: text in, 24 kHz waveform out. Importing this package does not load
torch.
"""
