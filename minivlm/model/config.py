"""The shape of a LLaVA model: frozen dataclasses whose fields are named like the checkpoint's `config.json`.

No size is fixed here: every number comes from the checkpoint, or from the defaults of its family, which
`minivlm.checkpoints` fills in.
"""

from collections.abc import Collection
from dataclasses import dataclass

from minivlm.errors import ConfigError, check_settings, is_positive

HIDDEN_ACTS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")  # of the tower's MLP, see `vision.py`


def check_positive(config: object, names: str) -> None:
    """Raise `ConfigError` unless the fields `names` are positive numbers."""
    rules = ((name, is_positive(getattr(config, name)), "be a positive number") for name in names.split())
    check_settings(type(config).__name__, config, rules)


@dataclass(frozen=True)
class VisionConfig:
    """A vision transformer: CLIP's, or SigLIP's, which has neither a class token nor a norm before the first layer."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    class_token: bool = True  # a learned token in front of the patches
    pre_norm: bool = True  # a norm between the embeddings and the first layer
    patch_bias: bool = False  # on the projection of the patches

    def __post_init__(self) -> None:
        sizes = "hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size "
        check_positive(self, sizes + "layer_norm_eps")
        heads, size = self.num_attention_heads, self.image_size
        rules = (
            ("hidden_size", self.hidden_size % heads == 0, f"be divisible by num_attention_heads {heads}"),
            ("hidden_act", self.hidden_act in HIDDEN_ACTS, f"be one of {', '.join(HIDDEN_ACTS)}"),
            ("patch_size", self.patch_size <= size, f"be at most image_size {size}"),
        )
        check_settings("VisionConfig", self, rules)

    @property
    def num_patches(self) -> int:
        """Patches of one picture. A margin narrower than a patch, at the right and the bottom, is never seen: of
        SigLIP's 384 pixels, 27 patches of 14 see 378."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_tokens(self) -> int:
        """What the tower computes for one picture: the patches and, where there is one, the class token."""
        return self.num_patches + self.class_token


@dataclass(frozen=True)
class RopeScaling:
    """How Llama 3.1 stretches rotary positions beyond the length it was first trained on (`rope_type: llama3`)."""

    factor: float  # slow rotations become so many times slower
    low_freq_factor: float  # slow: fewer turns than this within the original length
    high_freq_factor: float  # fast, and left alone: more turns than this; between the two, a blend
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        check_positive(self, "factor low_freq_factor high_freq_factor original_max_position_embeddings")
        low, high = self.low_freq_factor, self.high_freq_factor
        check_settings("RopeScaling", self, [("high_freq_factor", high > low, f"be larger than low_freq_factor {low}")])


@dataclass(frozen=True)
class TextConfig:
    """A LLaMA-style decoder: LLaMA, Mistral and Qwen2 differ only in these numbers."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    attention_bias: bool = False  # on the projections to queries, keys and values
    attention_output_bias: bool = False  # on the projection back
    sliding_window: int | None = None  # not implemented: prompts longer than it are refused

    def __post_init__(self) -> None:
        sizes = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
        check_positive(self, sizes + "head_dim max_position_embeddings rms_norm_eps rope_theta")
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        rules = (
            ("num_attention_heads", heads % groups == 0, f"be divisible by num_key_value_heads {groups}"),
            ("head_dim", self.head_dim % 2 == 0, "be even for rotary halves"),
        )
        check_settings("TextConfig", self, rules)

    @property
    def context_length(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return min(self.max_position_embeddings, self.sliding_window or self.max_position_embeddings)

    def check_layers(self, name: str, layers: Collection[int]) -> None:
        """Raise `ConfigError` unless the decoder has all `layers`, from 0; `name` is the argument that holds them."""
        if not isinstance(layers, Collection):
            raise ConfigError(f"{name} must be a list of layers, such as [1], found {layers!r}.")
        for layer in layers:
            if layer not in range(self.num_hidden_layers):
                last = self.num_hidden_layers - 1
                raise ConfigError(f"{name} names the layer {layer!r}, but the decoder has the layers 0 to {last}.")


@dataclass(frozen=True)
class LlavaConfig:
    """A vision tower, a projector and a decoder, and how they are joined."""

    vision_config: VisionConfig
    text_config: TextConfig
    image_token_index: int  # placeholder id of one patch in the prompt; may be ≥ vocab_size
    vision_feature_layer: int | tuple[int, ...] = -2
    vision_feature_select_strategy: str = "default"  # "default": without the first token; "full": all of them
    multimodal_projector_bias: bool = True
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        known = self.vision_feature_select_strategy in ("default", "full")
        check_settings("LlavaConfig", self, [("vision_feature_select_strategy", known, "be one of default, full")])
        if self.vision_feature_select_strategy == "default" and not self.vision_config.class_token:
            raise ConfigError(
                "vision_feature_select_strategy 'default' takes away the class token, but this tower has none: a patch "
                "would be lost. Expected 'full'."
            )
        depth = self.vision_config.num_hidden_layers
        if not self.feature_layers:
            raise ConfigError("vision_feature_layer names no layer: the projector needs at least one, usually -2.")
        for layer in self.feature_layers:
            if not -depth - 1 <= layer <= depth:
                raise ConfigError(
                    f"vision_feature_layer {layer} is out of range: the tower has {depth} layers, "
                    f"so {-depth - 1} to {depth} can be named (0 is the embedding)."
                )

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """The tower's hidden states that the projector gets; 0 is the embedding, -1 the last layer's output."""
        layers = self.vision_feature_layer
        return (layers,) if isinstance(layers, int) else tuple(layers)

    @property
    def num_image_tokens(self) -> int:
        """Placeholders that one picture takes in a prompt."""
        full = self.vision_feature_select_strategy == "full"
        return self.vision_config.num_tokens if full else self.vision_config.num_patches
