"""How the bundled voice is made: text and a teacher in, a small checkpoint out. Not needed to
speak.
"""
