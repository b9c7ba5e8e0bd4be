"""A trace: statistics of the attention while an answer was generated. Whole maps are kept only if they are asked for.

T generated tokens · L layers · H heads · P patches. The row of a token is the one whose logits it was chosen from.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minivlm.errors import GenerationError
from minivlm.files import json_types
from minivlm.inference import trace_file
from minivlm.inference.answer import Answer, Inputs
from minivlm.inference.generate import Step
from minivlm.inference.trace_file import PARTS, TENSORS, TOP
from minivlm.inputs.prompt import Span
from minivlm.inputs.tokenizer import Tokenizer
from minivlm.model import Layout, Llava, Output
from minivlm.model.clva import pooled_map
from minivlm.model.redistribute import normalised


@dataclass(frozen=True)
class Trace:
    """What is kept of one answer. Tensors are on the CPU. Several threads may share it if none changes them."""

    facts: dict[str, Any]  # what an `Answer` says, its pieces and the layers of the lens, in JSON types
    shares: Tensor  # (T, L, H, len(PARTS)): the share of each row's attention on each part; sums to 1
    entropy: Tensor  # (T, L, H): of the attention within the picture, 0 (one patch) .. 1 (all patches equal)
    pooled: Tensor  # (T, L, P) fp16: each layer's map of the picture, pooled over heads as in `clva.py`; sums to 1
    sink_scores: Tensor  # (L, H, P) fp16: the prefill's vision-sink scores
    lens_prob: Tensor  # (T, lens layers): probability of the token that was chosen, read from a layer's output
    lens_top: Tensor  # (T, lens layers, TOP): the most likely tokens there
    lens_top_prob: Tensor  # (T, lens layers, TOP)
    maps: dict[int, Tensor] = field(default_factory=dict)  # layer -> the prefill's whole weights (H, Q, Q), if asked

    @property
    def text(self) -> str:
        """The answer."""
        return self.facts["text"]

    @property
    def pieces(self) -> list[str]:
        """The text of each token; joined they are the answer."""
        return self.facts["pieces"]

    @property
    def finish(self) -> str:
        """Why the answer ended: "stop", "length" or "interrupted"."""
        return self.facts["finish"]

    @property
    def lens_layers(self) -> list[int]:
        """The layers that the logit lens was applied to."""
        return self.facts["lens_layers"]

    def share(self, part: str) -> Tensor:
        """The share of one part, (T, L, H)."""
        return self.shares[..., PARTS.index(part)]

    def save(self, file: str | Path) -> None:
        """Write one `.safetensors` file whose header holds the facts as JSON. Raises `CheckpointError` if it fails."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        trace_file.save(file, self.facts, tensors | {f"maps.{layer}": map_ for layer, map_ in self.maps.items()})

    @classmethod
    def load(cls, file: str | Path) -> "Trace":
        """Read what `save` wrote; no model is needed. Raises `CheckpointError` for any other file."""
        facts, tensors = trace_file.load(file)
        whole = [name for name in tensors if name.startswith("maps.")]
        maps = {int(name.removeprefix("maps.")): tensors.pop(name) for name in whole}
        return cls(facts, **tensors, maps=maps)


class Tracer:
    """Computes the statistics of a generation, step by step.

    Traced rows take the visible lane of the attention. In fp32 the text stays the same; in 16 bits the two lanes are
    rounded differently, and where two tokens are almost equally likely, the other one is sometimes chosen.
    """

    def __init__(self, model: Llava, inputs: Inputs, maps: Collection[int], lens: Collection[int]) -> None:
        model.config.text_config.check_layers("lens", lens)
        model.config.text_config.check_layers("maps", maps)
        self.model, self.inputs = model, inputs
        self.lens, self.maps = sorted(lens), sorted(maps)
        self.image = inputs.tokens == model.config.image_token_index  # B T
        self.parts = torch.stack([parts_of(spans, inputs.tokens.shape[1]) for spans in inputs.spans])  # B T parts
        self.parts = self.parts.to(inputs.tokens.device)
        depth = model.config.text_config.num_hidden_layers
        of_layers = self.image.repeat_interleave(depth, dim=0)  # (B L) T: every layer of every sample
        self.most_entropy = self.image.sum(dim=1).clamp(min=2).log()[:, None, None]  # of an even map
        self.layout = Layout(of_layers, of_layers, queries=1, prompt=of_layers.shape[1])
        self.steps: list[dict[str, Tensor]] = []

    @property
    def watch(self) -> dict[str, Any]:
        """What the model must return, as arguments of its call."""
        layers = range(self.model.config.text_config.num_hidden_layers)
        return {"rows": layers, "sinks": layers, "maps": self.maps, "hidden": bool(self.lens)}

    def record(self, step: Step) -> None:
        """Keep the statistics of one step; whole maps and sinks only of the first step, which is the prefill."""
        output = step.output
        if not self.steps:
            self.sinks = torch.stack([scores.cpu() for scores in output.sink_scores.values()], dim=1)  # B L H T
            self.whole = {layer: map_.cpu() for layer, map_ in output.maps.items()}
        rows = torch.stack(list(output.rows.values()), dim=1).float()  # B L H K
        statistics = {**self.statistics(rows), **self.read_lens(output, step.chosen)}
        self.steps.append({name: value.cpu() for name, value in statistics.items()})

    def statistics(self, rows: Tensor) -> dict[str, Tensor]:
        """Shares, entropy and pooled maps of one row, from its weights `rows` (B, L, H, K)."""
        prompt = self.image.shape[1]
        within, written = rows[..., :prompt], rows[..., prompt:]  # the answer so far comes after the prompt
        shares = torch.einsum("blhk,bkp->blhp", within, self.parts)
        shares[..., PARTS.index("answer")] += written.sum(dim=-1)
        on_image = normalised(within * self.image[:, None, None])
        entropy = -torch.xlogy(on_image, on_image).sum(dim=-1) / self.most_entropy
        pooled = pooled_map(within.flatten(0, 1)[:, :, None], self.layout)[:, 0]  # (B L) P
        return {
            "shares": shares,  # B L H parts
            "entropy": entropy,  # B L H
            "pooled": pooled.unflatten(0, (len(rows), -1)).half(),  # B L P
        }

    def read_lens(self, output: Output, chosen: list[int]) -> dict[str, Tensor]:
        """The predictions of the LM head from the output of each lens layer: logit lens (nostalgebraist 2020)."""
        if output.hidden is None:  # no lens layers were asked for
            empty = torch.zeros(len(chosen), 0, TOP)
            return {"lens_prob": empty[..., 0], "lens_top": empty.long(), "lens_top_prob": empty}
        states = torch.stack([output.hidden[layer + 1][:, -1] for layer in self.lens], dim=1)  # B lens D
        probabilities = self.model.lm_head(self.model.text.norm(states)).float().softmax(dim=-1)  # B lens V
        token = torch.tensor(chosen, device=states.device)[:, None, None].expand(-1, len(self.lens), 1)
        top = probabilities.topk(TOP, dim=-1)
        chosen_prob = probabilities.gather(-1, token)[..., 0]
        return {"lens_prob": chosen_prob, "lens_top": top.indices, "lens_top_prob": top.values}

    def traces(self, answers: Sequence[Answer], tokenizer: Tokenizer) -> list[Trace]:
        """One trace for each sample, cut to its answer."""
        if not self.steps:
            raise GenerationError("The trace was interrupted before the first token was chosen: nothing is in it.")
        batch = {name: torch.stack([step[name] for step in self.steps], dim=1) for name in self.steps[0]}  # B T …
        return [self._trace(sample, answer, tokenizer, batch) for sample, answer in enumerate(answers)]

    def _trace(self, sample: int, answer: Answer, tokenizer: Tokenizer, batch: dict[str, Tensor]) -> Trace:
        statistics = {name: values[sample, : len(answer.tokens)] for name, values in batch.items()}
        columns = self.image[sample].cpu()
        span = self.layout.span
        start = int(answer.spans[0].start)  # padding is before it
        spans = [[part.name, part.start - start, part.stop - start] for part in answer.spans]
        pieces = pieces_of(answer, tokenizer)
        facts = {**answer.as_dict(), "spans": spans, "pieces": pieces, "lens_layers": self.lens}
        return Trace(
            json_types(facts),  # so that a trace equals what `load` makes of it
            **{**statistics, "pooled": statistics["pooled"][..., columns[span]]},
            sink_scores=self.sinks[sample][..., columns].half(),
            maps={layer: map_[sample, :, start:, start:] for layer, map_ in self.whole.items()},
        )


def parts_of(spans: Iterable[Span], length: int) -> Tensor:
    """(T, parts): 1 where a token of a prompt of `length` tokens belongs to a part; padding belongs to none."""
    parts = torch.zeros(length, len(PARTS))
    for span in spans:
        parts[span.start : span.stop, PARTS.index(span.name)] = 1
    return parts


def pieces_of(answer: Answer, tokenizer: Tokenizer) -> list[str]:
    """The text of each token; joined they are the answer's text. A character of several tokens belongs to the last."""
    stream, left = tokenizer.stream(), answer.text
    pieces: list[str] = []
    for token in answer.tokens:
        piece = stream.push(token)
        piece = piece if any(pieces) else piece.lstrip()  # an answer does not begin with a space
        piece = piece if left.startswith(piece) else left  # … and may be cut by a stop text
        pieces.append(piece)
        left = left.removeprefix(piece)
    if pieces:
        pieces[-1] += left
    return pieces
