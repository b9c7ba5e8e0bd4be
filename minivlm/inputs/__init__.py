"""What goes into the network: pictures become pixels (`image.py`), words become tokens with spans (`prompt.py`)."""
