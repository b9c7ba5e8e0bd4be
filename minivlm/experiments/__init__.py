"""What is measured on the shipped model. Read `exam.py` first: what it sees and what it invents.

Then `trials.py` (answers under one condition, counted by the evaluation's CHAIR and POPE), `conditions.py` (EAH and
CLVA between ceiling and controls) with `oracle.py` and `tuning.py`, `layers.py` (how it looks, layer by layer) and
`bench.py` (what the methods cost). `demo.py` with `demo_text.py` is `minivlm demo`; `card.py`, `methods_card.py`,
`model_card.py` and `figures.py` write the model's card.
"""
