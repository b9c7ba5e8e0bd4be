"""From new tokens to text: one answer being written."""

from minivlm.inference.generate import Generation
from minivlm.inputs.tokenizer import Tokenizer


class StreamingText:
    """Collects the tokens of one answer, returns their text as soon as it is certain, and detects the end.

    `finish` says why it ended: "stop" (a stop token or a stop text), "length" (no more tokens allowed), "interrupted".
    """

    def __init__(self, tokenizer: Tokenizer, settings: Generation) -> None:
        self._stops, self._endings = tokenizer.stops, settings.stop
        self._decoder = tokenizer.stream()
        self._waiting = ""  # text that may turn out to be the beginning of a stop text
        self.tokens: list[int] = []
        self.text = ""
        self.finish: str | None = None

    def push(self, token: int) -> str:
        """Add a token and return the text that has become certain, often none."""
        if self.finish:
            return ""
        self.tokens.append(token)
        if token in self._stops:
            return self.close("stop")
        return self._release(self._decoder.push(token))

    def close(self, finish: str) -> str:
        """End the answer for the reason `finish`; return the text that was held back."""
        if self.finish:
            return ""
        text = self._release(self._decoder.finish())
        self.finish = self.finish or finish
        rest, self._waiting = self._waiting, ""
        return text + self._give(rest)

    def _release(self, new: str) -> str:
        """Return what can no longer belong to a stop text; cut the answer where a stop text begins."""
        self._waiting += new
        starts = [start for ending in self._endings if (start := self._waiting.find(ending)) >= 0]
        if starts:
            certain, self._waiting, self.finish = self._waiting[: min(starts)], "", "stop"
        else:
            keep = max((overlap(self._waiting, ending) for ending in self._endings), default=0)
            certain = self._waiting[: len(self._waiting) - keep]
            self._waiting = self._waiting[len(certain) :]
        return self._give(certain)

    def _give(self, text: str) -> str:
        """Add `text` to the answer; an answer does not begin with a space."""
        text = text if self.text else text.lstrip()
        self.text += text
        return text


def overlap(text: str, ending: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `ending`."""
    return max((n for n in range(1, len(ending)) if text.endswith(ending[:n])), default=0)
