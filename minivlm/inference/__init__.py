"""From a loaded model to an answer. Read `generate.py` first: prefill, then one token a step.

Then `writer.py` (tokens to text), `answer.py` (what goes in and comes out), `vlm.py` (ask, stream, trace),
`effect.py` (what a mitigation did, summed and told), `trace.py` (how the model looked while it wrote),
`conversation.py`, `load.py` (a name becomes a `VLM`) and `tensor_parallel.py` (one model over several devices).
"""
