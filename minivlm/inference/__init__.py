"""From a loaded model to an answer. Read `generate.py` first: prefill, then one token a step.

Then `decode.py` (what such a step is), `streaming_text.py` (tokens to text), `answer.py` (inputs and answers), `vlm.py`
(ask, stream, trace), `effect.py` (what a mitigation did, as sums and in words), `trace.py` (statistics of the attention
during an answer), `conversation.py`, `load.py` (a name becomes a `VLM`) and `tensor_parallel.py` (one model over
several devices).
"""
