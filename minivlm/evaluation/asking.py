"""Many questions about few pictures, by several methods; what they have in common is computed once.

             tower          | prompt up to the picture        | question, answer
    plain    once a picture | once a picture                  | once a question
    CLVA     …              | …, and the same as plain's      | …
    EAH      …              | once a question                 | …

The cached prefix can be shared where a method does not change its rows. CLVA changes only rows of text behind the
picture, so the keys and values of the tokens before them are exactly the plain model's. EAH broadcasts a head to *all*
rows of its layer, the picture's too, and chooses it by the attention of all rows, those of the question among them.
Another question may choose another head, and then the keys and values of every token in every later layer differ. So
EAH shares only the features of the picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minivlm.inference.answer import Answer
from minivlm.inference.decode import whole_columns
from minivlm.inference.generate import Generation, fitting_steps, new_cache
from minivlm.inference.vlm import VLM
from minivlm.inputs.prompt import Prompt, pad_batch
from minivlm.model import KVCache, Mitigation


@dataclass(frozen=True)
class EncodedImages:
    """N pictures in the form that all questions about them share."""

    features: Tensor  # (N, P, D), from the vision tower and the projector
    prefix: tuple[int, ...]  # the tokens that every prompt begins with, up to the picture's last patch
    cache: KVCache  # keys and values of the prefix in the plain model, one sample for each picture


@dataclass(frozen=True)
class Asker:
    """A model, its generation settings, and the mitigations to compare, by name."""

    vlm: VLM
    settings: Generation
    methods: Mapping[str, Mitigation]

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> EncodedImages:
        """Encode the pictures (N, 3, S, S), and prefill the prefix of the prompt for each of them."""
        vlm = self.vlm
        features, _ = vlm.model.encode_images(pixels.to(vlm.device, vlm.dtype))
        prefix = through_picture(vlm.prompt("?", num_images=1))
        tokens = torch.tensor([prefix] * len(pixels), device=vlm.device)
        cache = new_cache(vlm.model, *tokens.shape)
        vlm.model(tokens, features=features, cache=cache, last_only=True)
        return EncodedImages(features, prefix, cache)

    def ask(self, encoded: EncodedImages, asked: Sequence[tuple[int, str]], method: str) -> list[Answer]:
        """Answer one batch of questions; `asked` holds (number of the picture in `encoded`, question) for each."""
        pictures, questions = zip(*asked, strict=True)
        prompts = [self.vlm.prompt(question, num_images=1) for question in questions]
        mitigation, shared = self.methods[method], len(encoded.prefix)
        same = all(prompt.tokens[:shared] == encoded.prefix for prompt in prompts)
        if not same or mitigation.eah is not None:
            batch = pad_batch(prompts, self.vlm.tokenizer.pad)
            inputs = self.vlm.inputs(batch, None, encoded.features[list(pictures)])
            return self.vlm.write(inputs, self.settings, mitigation=mitigation)
        inputs = self.vlm.inputs(pad_batch(prompts, self.vlm.tokenizer.pad, shared), None)
        new = replace(inputs, tokens=inputs.tokens[:, shared:])
        prompt = inputs.attention_mask.shape[1]
        capacity = whole_columns(prompt + fitting_steps(self.vlm.model, prompt, self.settings.max_new_tokens))
        return self.vlm.write(new, self.settings, mitigation=mitigation, cache=encoded.cache.branch(pictures, capacity))


def through_picture(prompt: Prompt) -> tuple[int, ...]:
    """The tokens of a prompt with one picture, up to and including its last patch."""
    (picture,) = prompt.named("image")
    return prompt.tokens[: picture.stop]
