"""How many yes-no questions and captions a second go through the evaluation: pictures shared, batches, as in a run."""

import time
from collections.abc import Sequence
from typing import Any

from minivlm.evaluation.asking import Asker
from minivlm.evaluation.datasets import Dataset, open_dataset
from minivlm.evaluation.items import Item, chair_items, pope_items
from minivlm.evaluation.plan import plan, unfinished
from minivlm.evaluation.runner import records_of
from minivlm.evaluation.settings import PLAIN
from minivlm.inference.generate import Generation
from minivlm.inference.vlm import VLM
from minivlm.model import NO_MITIGATION

BATCH = 16  # as `minivlm evaluate` has it
POPE_TOKENS, CAPTION_TOKENS = 10, 64  # at most; a caption of the usual limit, 512, would measure random weights


def measure_evaluation(vlm: VLM, pictures: int) -> dict[str, Any]:
    """Questions about `pictures` drawn scenes, six about each as POPE has them, and a caption of each, plain.

    Drawing and preparing the pictures is part of it, to load the model is not. The first batch also warms up.
    """
    dataset = open_dataset("scenes:0").limited(pictures)
    yes_no = rate(vlm, dataset, pope_items(dataset, ["random"]), POPE_TOKENS)
    captions = rate(vlm, dataset, chair_items(dataset), CAPTION_TOKENS)
    return {"pictures": pictures, "batch": BATCH, "pope": yes_no, "captions": captions}


def rate(vlm: VLM, dataset: Dataset, items: Sequence[Item], longest: int) -> dict[str, Any]:
    """Answers, their tokens on average, seconds, and answers a second."""
    asker = Asker(vlm, Generation(max_new_tokens=longest), {PLAIN: NO_MITIGATION})
    start = time.perf_counter()
    records = [
        record
        for group, wanted in unfinished(plan(items, BATCH), [PLAIN], {})
        for record in records_of(asker, dataset, group, wanted)
    ]
    seconds = time.perf_counter() - start
    tokens = sum(record["tokens"] for record in records) / len(records)
    return {"answers": len(records), "tokens": tokens, "seconds": seconds, "answers/s": len(records) / seconds}
