"""How weights/tiny is made, from nothing. Read `train.py` first: it names the stages in order.

Then `recipe.py` (all numbers), `schedule.py`, `vocabulary.py` (the tokenizer), `tower.py` (stage one: eyes),
`lessons.py` (what is asked) and `reader.py` (stages two to four: words, then both).
"""
