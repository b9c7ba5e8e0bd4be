"""Assignment a1: CLIP's tower and the projector. Each test draws inputs and shows what your functions make of them.

No right answers are in this file: what a test shows is compared with what the reference showed on the same inputs.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import Show
from minivlm.errors import ImageError
from minivlm.model.config import LlavaConfig, TextConfig, VisionConfig
from minivlm.model.layers import quick_gelu
from minivlm.model.llava import Llava
from minivlm.model.projector import Projector, select_features
from minivlm.model.vision import VisionAttention, VisionBlock, VisionEmbeddings, VisionTower

HALF = 2e-2  # bf16 keeps 8 bits: one rounding is 2^-8 of a number, and here are up to four
DEEP = 1e-4  # fp32, several layers after each other

Module = TypeVar("Module", bound=nn.Module)


def test_quick_gelu(draw: Draw, show: Show) -> None:
    """CLIP was trained with this activation: another GELU, though almost the same, changes every layer."""
    x = draw.normal(2, 3, 40) * 2
    show(values=quick_gelu(x), at_zero_one_and_minus_one=quick_gelu(torch.tensor([0.0, 1.0, -1.0])))
    show(within=HALF, in_bf16=quick_gelu(x.bfloat16()))


def test_patches_stand_in_reading_order(draw: Draw, show: Show) -> None:
    """Patch by patch, row by row, as one reads: positions, maps and every picture of attention rely on it.

    Class token and positions are zero and each kernel takes a mean; patch n of the picture is filled with the number n.
    """
    side, patch = draw.number(3, 6), draw.pick([2, 3, 4])
    embeddings = silent(VisionEmbeddings(vision(image_size=side * patch, patch_size=patch)))
    embeddings.patch_embedding.weight.data.fill_(1 / (3 * patch * patch))
    numbers = torch.arange(side * side).reshape(side, side).float()
    picture = numbers.repeat_interleave(patch, dim=0).repeat_interleave(patch, dim=1).expand(1, 3, -1, -1)
    show(embedded=embeddings(torch.cat((picture, -picture))))


def test_class_token_first_then_positions(draw: Draw, show: Show) -> None:
    """The class token comes before all patches, in every picture, and each token gets the vector of its position."""
    embeddings = silent(VisionEmbeddings(vision(image_size=6, patch_size=2)))
    pixels = draw.normal(2, 3, 6, 6)
    embeddings.class_embedding.data += draw.normal(12)
    show(class_token_alone=embeddings(pixels))
    embeddings.class_embedding.data.zero_()
    embeddings.position_embedding.weight.data += draw.normal(10, 12)
    show(positions_alone=embeddings(pixels))


def test_embeddings_of_any_picture(draw: Draw, show: Show) -> None:
    """Several pictures at once, sides that no patch divides, a tower in 16 bits whose pixels come in 32."""
    pixels = draw.normal(3, 3, 15, 15)
    embeddings = draw.fill(VisionEmbeddings(vision(image_size=15, patch_size=4)))
    given = pixels.clone()
    show(embedded=embeddings(pixels), pixels_are_left_alone=torch.equal(pixels, given))
    show(within=HALF, in_bf16=embeddings.bfloat16()(pixels))


def test_embeddings_refuse_other_pictures(draw: Draw, show: Show) -> None:
    """A picture of another size is refused with an ImageError; the convolution alone would accept some of them."""
    embeddings = draw.fill(VisionEmbeddings(vision(image_size=15, patch_size=4)))
    for shape in ((1, 3, 12, 12), (2, 3, 14, 13), (1, 3, 19, 15), (1, 1, 15, 15), (3, 15, 15)):
        name = "_".join(map(str, shape))
        try:
            embeddings(draw.normal(*shape))
            show.named({f"pixels_{name}": "went through"})
        except ImageError as error:
            told = all(str(size) in str(error) for size in (15, *shape))
            show.named({f"pixels_{name}": "ImageError", f"error_{name}_tells_both_sizes": told})


def test_attention(draw: Draw, show: Show) -> None:
    """Every token looks at every token, head by head, and no picture sees another one."""
    tokens = torch.tensor([[[2.0, 0, 0, 0], [0, 2.0, 0, 0]]])
    show(by_hand=copying(VisionAttention(vision(hidden_size=4, num_attention_heads=1)))(tokens)[0, :, 0] / 2)
    one = draw.fill(VisionAttention(vision(num_attention_heads=1)))
    x = draw.normal(2, 7, 12)
    show(one_head=one(x))
    several = draw.fill(VisionAttention(vision(num_attention_heads=draw.pick([3, 4]))))
    x = draw.normal(3, 10, 12) * 1.5
    together = several(x)
    show(several_heads=together, a_picture_alone=several(x[1:2]))
    show(within=HALF, in_bf16=several.bfloat16()(x.bfloat16()))


def test_attention_over_many_tokens(draw: Draw, show: Show) -> None:
    """A large picture has thousands of tokens: no table of all tokens by all tokens for each head fits the memory."""
    attention = draw.fill(VisionAttention(vision(hidden_size=64, num_attention_heads=16)))
    x = draw.normal(1, 2600, 64)
    show(within=DEEP, every_hundredth=attention(x)[:, ::100])


def test_block_normalises_before_each_branch(draw: Draw, show: Show) -> None:
    """Two residual branches: where both give zeros, the block returns its input."""
    by_hand = VisionBlock(vision(hidden_size=2, num_attention_heads=1)).requires_grad_(False)
    copying(by_hand.self_attn)
    silent(by_hand.mlp)
    show(by_hand=by_hand(torch.tensor([[[3.0, 1.0]]])))
    block = draw.fill(VisionBlock(vision()))
    x = draw.normal(2, 6, 12) * 3
    show(block=block(x))
    block.mlp.fc2.weight.data.zero_()
    show(without_weights_behind_the_mlp=block(x))
    silent(block.self_attn.out_proj)
    silent(block.mlp.fc2)
    show(without_both_branches=block(x))


def test_tower_hands_out_its_states(draw: Draw, show: Show) -> None:
    """All hidden states, the normalised embedding first; layers beyond the depth that is asked for do not run."""
    tower = draw.fill(VisionTower(vision(num_hidden_layers=4)))
    pixels = draw.normal(2, 3, 8, 8)
    states = tower(pixels)
    show(is_a_tuple=isinstance(states, tuple), states=len(states))
    show.named({f"state_{number}": state for number, state in enumerate(states)}, within=DEEP)
    for number in (2, 3):
        tower.encoder.layers[number] = Unasked()
    show(states_at_depth_2=len(tower(pixels, 2)), states_at_depth_0=len(tower(pixels, depth=0)))
    show(within=DEEP, last_at_depth_2=tower(pixels, 2)[-1], last_at_depth_0=tower(pixels, depth=0)[-1])


def test_features_are_those_named(draw: Draw, show: Show) -> None:
    """The layers that the config names, counted over the whole tower even if it stopped early; patches only, or all.

    State n is filled with numbers from 100 n on, so that the message says which state and token was taken.
    """
    tokens = torch.arange(10.0)[None, :, None] + torch.tensor([0.0, 50.0])[:, None, None]
    states = tuple((100 * number + tokens).expand(2, 10, 12) for number in range(5))
    for layer in (-2, -1, 0, 3, -5):
        show.named({f"layer_{layer}_of_4": select_features(states, llava(layer))})
    for layer, reach in ((-2, 3), (-3, 2), (1, 1), (0, 0)):
        stopped = select_features(states[: reach + 1], llava(layer))
        show.named({f"layer_{layer}_of_4_with_states_0_to_{reach}": stopped})
    show(class_token_too=select_features(states, llava(-2, "full")))
    show(
        several=select_features(states, llava((-2, 1, 4))),
        several_in_full=select_features(states, llava((3, 0), "full")),
    )


def test_projector(draw: Draw, show: Show) -> None:
    """Two linear layers and the exact GELU, patch by patch: features of the tower become embeddings of the decoder."""
    projector = draw.fill(Projector(llava(-2)))
    features = draw.normal(2, 9, 12) * 2
    show(projected=projector(features), one_patch=projector(features[:1, 4:5]))
    wide = draw.fill(Projector(llava((-2, 1))))
    show(of_two_layers=wide(draw.normal(1, 5, 24)))
    show(within=HALF, in_bf16=projector.bfloat16()(features.bfloat16()))


def test_a_model_sees(draw: Draw, show: Show) -> None:
    """From pixels to vectors for the decoder, all pieces together; and gradients reach the pixels."""
    model = draw.fill(Llava(llava(-2)))
    pixels = draw.normal(2, 3, 8, 8).requires_grad_()
    features, _ = model.encode_images(pixels)
    show(within=DEEP, features=features)
    trained = [model.vision.embeddings.class_embedding, model.projector.linear_1.weight]
    for parameter in trained:
        parameter.requires_grad_()
    features, states = model.encode_images(pixels, hidden=True)
    gradients = torch.autograd.grad((features * draw.normal(*features.shape)).sum(), [pixels, *trained])
    show(states=None if states is None else len(states))
    show.named(dict(zip(("to_pixels", "to_class_token", "to_projector"), gradients, strict=True)), within=DEEP)


class Unasked(nn.Module):
    """A layer that must not run."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("A layer beyond the depth that was asked for was computed.")


def vision(
    hidden_size: int = 12,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 3,
    image_size: int = 8,
    patch_size: int = 4,
) -> VisionConfig:
    """A small tower: 4 patches a picture."""
    return VisionConfig(
        hidden_size=hidden_size,
        intermediate_size=20,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        image_size=image_size,
        patch_size=patch_size,
    )


def llava(layer: int | tuple[int, ...], strategy: str = "default") -> LlavaConfig:
    """A small model whose projector reads `layer`."""
    text = TextConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
    )
    return LlavaConfig(
        vision(), text, image_token_index=19, vision_feature_layer=layer, vision_feature_select_strategy=strategy
    )


def copying(attention: Module) -> Module:
    """The attention with projections that hand on what they get."""
    for projection in attention.children():
        assert isinstance(projection, nn.Linear), "the attention has projections, and nothing else"
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    return attention.requires_grad_(False)


def silent(module: Module) -> Module:
    """The module, with every parameter set to zero."""
    for parameter in module.parameters():
        parameter.data.zero_()
    return module.eval().requires_grad_(False)
