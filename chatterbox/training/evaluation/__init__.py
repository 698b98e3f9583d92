"""How the bundled voice is judged: its speech and its teacher's in, figures out."""
