"""Where a model's numbers stop being numbers: looked for once its logits are NaN or infinite."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minivlm.model import Llava

ADVICE = (
    "Damaged weights or a dtype that is too small do this: look at the checkpoint with `minivlm check`, or try another "
    "dtype."
)


@torch.inference_mode()
def no_numbers(model: Llava, tokens: Tensor, pixels: Tensor | None, features: Tensor | None, mask: Tensor) -> str:
    """A sentence about logits that are NaN or infinite, and the first place before them where that is so: the prompt is
    computed once more, plainly. Arguments as for the model; `mask` (B, T) is False at padding.
    """
    sentence = "The model gave logits that are NaN or infinite."
    if mask.shape[1] != tokens.shape[1]:  # the beginning of the prompt is in a cache
        return f"{sentence} {ADVICE}"
    for place, numbers in stages(model, tokens, pixels, features, mask):
        if not bool(numbers.isfinite().all()):
            dtype = str(numbers.dtype).removeprefix("torch.")
            return f"{sentence} The first such numbers are in {place}, in {dtype}. {ADVICE}"
    return f"{sentence} Those of the prompt, without a mitigation, are not. {ADVICE}"


def stages(
    model: Llava, tokens: Tensor, pixels: Tensor | None, features: Tensor | None, mask: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """The places that a prompt goes through, in order, with their numbers."""
    if pixels is not None:
        yield "the pixels", pixels
    output = model(tokens, pixels, features=features, attention_mask=mask, hidden=True)
    for number, state in enumerate(output.vision_hidden or ()):
        yield f"layer {number - 1} of the vision tower" if number else "the vision tower's embedding", state
    if output.image_features is not None:
        yield "the picture's features, behind the projector", output.image_features
    for number, state in enumerate(output.hidden or ()):
        yield f"layer {number - 1} of the decoder" if number else "the embedding", state[mask]
    yield "the logits alone, so in the last norm or the LM head", output.logits[mask]
