"""How fast networks answer, against other ways to run them, on the same weights and images.

Nothing in here imports torch before a contender needs it: the engine is timed without.
"""
