"""The drawings of the toy world, one file per theme; every function draws one object with a `Pen`."""
