"""Experiments with the shipped model. Read `exam.py` first: which objects it recognizes and which it hallucinates.

Then `trials.py` (answers under one condition, scored by CHAIR and POPE), `conditions.py` (EAH and CLVA compared with an
oracle and with controls) with `oracle.py` and `tuning.py`, `layers.py` (attention by layer) and `bench.py` (the cost of
the methods). `demo.py` with `demo_text.py` is `minivlm demo`; `card.py`, `methods_card.py`, `model_card.py` and
`figures.py` write the model's card.
"""
