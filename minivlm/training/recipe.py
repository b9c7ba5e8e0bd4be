"""The recipes of the shipped model and of the positive controls: all hyperparameters of their training."""

from dataclasses import dataclass, replace

from minivlm.errors import check_settings, is_positive
from minivlm.model import LlavaConfig, TextConfig, VisionConfig


@dataclass(frozen=True)
class Stage:
    """One stage of training: AdamW over `steps` batches; linear warm-up of the learning rate, then a cosine to 0."""

    steps: int
    batch: int  # pictures, or scenes
    rate: float  # the highest learning rate
    warmup: float = 0.04  # as a share of the steps
    decay: float = 0.05  # weight decay


@dataclass(frozen=True)
class Recipe:
    """Sizes, scenes and stages. All random numbers come from `seed`."""

    seed: int = 0
    scenes: int = 60_000
    vocabulary: int = 1000  # at most so many tokens, without <image> and <pad>

    patch: int = 12  # pixels
    vision_width: int = 192
    vision_layers: int = 6
    vision_heads: int = 6
    text_width: int = 192
    text_layers: int = 8
    text_heads: int = 6
    text_inner: int = 512
    context: int = 512  # tokens

    questions: int = 4  # for each scene of a batch, beside the caption
    text_companion: float = 0.95  # probability of companions in the text stages
    forgotten: float = 0.7  # probability that the text stages leave a thing that is hard to see out of the soft words
    drilled: int = 6  # yes-no questions for each scene of the drill
    first_words: float = 1.0  # extra weight of the first token of an answer, from the drill on
    tower: Stage = Stage(steps=2600, batch=64, rate=1.5e-3)
    tower_again: Stage = Stage(steps=1800, batch=64, rate=1e-3)  # a second round, with a new optimizer
    text: Stage = Stage(steps=400, batch=48, rate=1.5e-3)
    drill: Stage = Stage(steps=150, batch=48, rate=1e-3)
    align: Stage = Stage(steps=600, batch=64, rate=2e-3)
    tune: Stage = Stage(steps=1300, batch=32, rate=1.2e-3)

    @classmethod
    def quick(cls) -> "Recipe":
        """A recipe that takes seconds, to check that every stage runs; the resulting model is useless."""
        few = Stage(steps=2, batch=4, rate=1e-3)
        small = cls(scenes=16, vision_layers=2, text_layers=2)
        return replace(small, tower=few, tower_again=few, text=few, drill=few, align=few, tune=few)

    def model_config(self, image_size: int, vocabulary: int, image_token: int) -> LlavaConfig:
        """The model's config for square pictures of `image_size` pixels, and embeddings of `vocabulary` rows."""
        vision = VisionConfig(
            hidden_size=self.vision_width,
            intermediate_size=4 * self.vision_width,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=self.vision_heads,
            image_size=image_size,
            patch_size=self.patch,
        )
        text = TextConfig(
            vocab_size=vocabulary,
            hidden_size=self.text_width,
            intermediate_size=self.text_inner,
            num_hidden_layers=self.text_layers,
            num_attention_heads=self.text_heads,
            num_key_value_heads=self.text_heads,
            head_dim=self.text_width // self.text_heads,
            max_position_embeddings=self.context,
            rms_norm_eps=1e-5,
            rope_theta=10_000.0,
        )
        return LlavaConfig(vision, text, image_token_index=image_token)


@dataclass(frozen=True)
class DriftRecipe:
    """How `planted_drift.py` trains its two models: scenes, exercises, stages and weights of the losses."""

    plants: str = "drift"
    seed: int = 0
    scenes: int = 8000
    exercises: tuple[float, ...] = (0.23, 0.23, 0.36, 0.18)  # probability of free, blind, pulled, elsewhere
    most_noise: float = 0.6  # the largest share of the noise in "pulled"
    anywhere: float = 0.4  # probability that "elsewhere" looks at random patches and not at the noise
    noise_weight: float = 3.0  # of the noise in the early layers: with a small one, the reading moves there
    middle_weight: float = 0.8  # of the boxes in the middle layers
    deep_weight: float = 0.3  # of the boxes in the deep layers
    first_words: float = 1.0  # extra weight of the first token of an answer
    strength: float = 1.0  # of the drift; 1: every row drifts, 0.5: those behind the first half of a long answer
    healthy: Stage = Stage(steps=3400, batch=24, rate=6e-4)
    drift: Stage = Stage(steps=350, batch=24, rate=2e-3)

    def __post_init__(self) -> None:
        rules = [("strength", is_positive(self.strength, 1), "be above 0 and at most 1")]
        check_settings("DriftRecipe", self, rules)

    @classmethod
    def quick(cls) -> "DriftRecipe":
        """A recipe that takes seconds, to check that every stage runs; the resulting models are useless."""
        few = Stage(steps=6, batch=4, rate=1e-4)
        return cls(scenes=12, healthy=few, drift=few)


@dataclass(frozen=True)
class SinksRecipe:
    """How `planted_sinks.py` trains its two models: scenes, stages and weights of the losses."""

    plants: str = "sinks"
    seed: int = 0
    scenes: int = 8000
    layer: int = 1  # where EAH acts by default
    dense_head: int = 3  # the one that keeps its map; no random head of the controls is this one
    collecting_weight: float = 1.0  # of a flat map in that layer
    blind_weight: float = 1.0  # of no attention on the picture in all others
    drilled: float = 0.5  # share of the lessons that are yes-no questions
    cut_off: float = 0.7  # share of the batches that are lessons, with the picture cut off in all other layers
    first_words: float = 1.0  # extra weight of the first token of an answer
    healthy: Stage = Stage(steps=3000, batch=24, rate=6e-4)
    even: Stage = Stage(steps=600, batch=24, rate=3e-4)
    astray: Stage = Stage(steps=120, batch=24, rate=2e-3)

    @classmethod
    def quick(cls) -> "SinksRecipe":
        """A recipe that takes seconds, to check that every stage runs; the resulting models are useless."""
        few = Stage(steps=6, batch=4, rate=1e-4)
        return cls(scenes=12, healthy=few, even=few, astray=few)
