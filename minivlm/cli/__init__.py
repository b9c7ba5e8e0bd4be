"""The command `minivlm`. Read `main.py` first: what can be typed, and how it ends.

Then the files of the commands, `ask.py` (demo, ask, chat, explore, check, download), `train.py` (train, exam,
make-random), `bench.py`, `evaluate.py` with `score.py`, `course.py` and `doctor.py`. `arguments.py` makes what was
typed a request, `options.py` holds what the requests of several commands share, `terminal.py` prints.
"""
