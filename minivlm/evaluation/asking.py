"""Asking many questions about few pictures, by several methods, and computing once what they share.

             tower          | prompt up to the picture        | question, answer
    plain    once a picture | once a picture                  | once a question
    CLVA     …              | …, and the same as plain's      | …
    EAH      …              | once a question                 | …

The prefix can be shared where a method leaves its rows as they are. CLVA changes rows of text behind the picture alone,
so the keys and values of all that stands before are the plain model's, exactly. EAH broadcasts a head to *all* rows of
its layer, the picture's too, and chooses it by what all later rows look at, the question among them: another question
may choose another head, and with it other keys and values for every token in every later layer. There the picture's
features are shared and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minivlm.inference.answer import Answer
from minivlm.inference.generate import Generation, fitting_steps, new_cache
from minivlm.inference.vlm import VLM
from minivlm.inputs.prompt import Prompt, pad_batch
from minivlm.model import KVCache, Mitigation


@dataclass(frozen=True)
class Looked:
    """What is known of N pictures before anything is asked."""

    features: Tensor  # (N, P, D)
    prefix: tuple[int, ...]  # the tokens of every prompt, up to its picture's last patch
    cache: KVCache  # of the prefix, one row a picture, as the plain model computes it


@dataclass(frozen=True)
class Asker:
    """A model, how it writes, and the methods by which it is asked."""

    vlm: VLM
    settings: Generation
    methods: Mapping[str, Mitigation]

    @torch.inference_mode()
    def look(self, pixels: Tensor) -> Looked:
        """See the pictures (N, 3, S, S), each behind the words that open every prompt."""
        vlm = self.vlm
        features, _ = vlm.model.encode_images(pixels.to(vlm.device, vlm.dtype))
        prefix = through_picture(vlm.prompt("?", num_images=1))
        tokens = torch.tensor([prefix] * len(pixels), device=vlm.device)
        cache = new_cache(vlm.model, *tokens.shape)
        vlm.model(tokens, features=features, cache=cache, last_only=True)
        return Looked(features, prefix, cache)

    def ask(self, looked: Looked, rows: Sequence[tuple[int, str]], method: str) -> list[Answer]:
        """Answer one batch of questions; a row is the number of its picture and the question about it."""
        pictures, questions = zip(*rows, strict=True)
        prompts = [self.vlm.prompt(question, num_images=1) for question in questions]
        mitigation, shared = self.methods[method], len(looked.prefix)
        same = all(prompt.tokens[:shared] == looked.prefix for prompt in prompts)
        if not same or mitigation.eah is not None:
            batch = pad_batch(prompts, self.vlm.tokenizer.pad)
            inputs = self.vlm.inputs(batch, None, looked.features[list(pictures)])
            return self.vlm.write(inputs, self.settings, mitigation=mitigation)
        inputs = self.vlm.inputs(pad_batch(prompts, self.vlm.tokenizer.pad, shared), None)
        new = replace(inputs, tokens=inputs.tokens[:, shared:])
        prompt = inputs.attention_mask.shape[1]
        capacity = prompt + fitting_steps(self.vlm.model, prompt, self.settings.max_new_tokens)
        return self.vlm.write(new, self.settings, mitigation=mitigation, cache=looked.cache.branch(pictures, capacity))


def through_picture(prompt: Prompt) -> tuple[int, ...]:
    """The tokens of a prompt with one picture, up to and with its last patch."""
    (picture,) = prompt.named("image")
    return prompt.tokens[: picture.stop]
