"""How weights/tiny is trained from scratch, and from it the positive controls.

Read `train.py` first: it names the stages in order. Then `recipe.py` (all hyperparameters), `schedule.py` (the training
loop), `vocabulary.py` (the tokenizer), `labels.py`, `tower.py` (pretraining of the vision tower), `lessons.py` (packed
training sequences and their loss) and `reader.py` (the stages of the decoder and the projector).

The positive controls are in `planting.py` (what both share), `planted_drift.py` for CLVA with `exercises.py` (how
attention is changed while the healthy reader learns), `planted_sinks.py` for EAH, and `attention_lessons.py` (where
rows should look).
"""
