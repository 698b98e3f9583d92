"""How the bundled voice is judged: speech and its teacher's in, figures out. Not needed to speak."""
