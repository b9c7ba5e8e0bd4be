"""The drawings of the toy world, one file for each theme; every function draws one object with a `Pen`.

`color` is the object's colour; `rng` chooses its form. Lengths are shares of the side of the pen's unit square.
"""
