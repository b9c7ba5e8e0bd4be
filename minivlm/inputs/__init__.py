"""The network's inputs: pictures become pixels (`image.py`), conversations become tokens with spans (`prompt.py`)."""
