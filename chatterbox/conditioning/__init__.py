"""A reference clip → the conditioning of one voice; needed to clone a voice, not to speak."""
