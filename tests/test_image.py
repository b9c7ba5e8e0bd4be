"""Pictures -> pixels: bit-equal to the processors that the checkpoints were made with; bad pictures are sentences."""

import contextlib
import json
import os
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minivlm.errors import ConfigError, ImageError
from minivlm.inputs.image import (
    CLIP_MEAN,
    CLIP_STD,
    ImagePreprocessing,
    default_mode,
    load_image,
    to_pixels,
)
from minivlm.inputs.placement import placement

HUB = {  # what the hub's LLaVA-1.5 folders say
    "crop_size": {"height": 336, "width": 336},
    "do_center_crop": True,
    "image_mean": list(CLIP_MEAN),
    "image_processor_type": "CLIPImageProcessor",
    "image_std": list(CLIP_STD),
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 336},
}
SIZES = [
    (336, 336), (640, 480), (480, 640), (427, 640), (640, 427), (500, 375), (337, 336), (335, 500),
    (1, 1), (2, 3), (1, 60), (300, 7), (1001, 999),
]  # fmt: skip
needs_data = pytest.mark.skipif("MINIVLM_TEST_DATA" not in os.environ, reason="MINIVLM_TEST_DATA is not set")


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    """A smooth gradient under noise, so that both shifts and filters show."""
    rows, columns = np.mgrid[:height, :width]
    waves = 90 * np.sin(rows / 9) + 60 * np.cos(columns / 7)
    grain = np.random.default_rng(width * 7919 + height).normal(128, 40, (height, width, channels))
    return np.clip(grain + waves[..., None], 0, 255).astype(np.uint8)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(noise(width, height))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(image: Image.Image) -> list:
    return np.asarray(image).tolist()


# --- the two recipes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [336, 224, 33])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_crop_equals_the_hubs_processor_bit_for_bit(width, height, size):
    transformers = pytest.importorskip("transformers")
    config = {**HUB, "size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    config.pop("image_processor_type")
    reference = transformers.CLIPImageProcessorPil(**config)(picture(width, height), return_tensors="pt")
    pixels = to_pixels(picture(width, height), ImagePreprocessing.from_config(config, mode="crop"))
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels, reference["pixel_values"][0])


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_pad_equals_the_original_steps(width, height):
    """expand2square in the mean colour, then CLIP's processor: the original code's order."""
    transformers = pytest.importorskip("transformers")
    side = max(width, height)
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = [122, 116, 104]
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = noise(width, height)
    reference = transformers.CLIPImageProcessorPil(**HUB)(Image.fromarray(canvas), return_tensors="pt")
    pixels = to_pixels(picture(width, height), ImagePreprocessing.from_config(HUB, mode="pad"))
    assert torch.equal(pixels, reference["pixel_values"][0])


@pytest.mark.parametrize(("width", "height"), [(640, 427), (7, 300)])
def test_pad_equals_the_hubs_padding_processor(width, height):
    transformers = pytest.importorskip("transformers")
    config = {**HUB, "image_processor_type": "LlavaImageProcessor", "do_pad": True}
    reference = transformers.models.llava.image_processing_pil_llava.LlavaImageProcessorPil(**config)
    expected = reference(picture(width, height), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(to_pixels(picture(width, height), ImagePreprocessing.from_config(config)), expected)


@needs_data
def test_real_photographs_equal_the_hubs_processor():
    transformers = pytest.importorskip("transformers")
    data = Path(os.environ["MINIVLM_TEST_DATA"])
    folder = data / "llava-1.5-7b-hf"
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    recipe = ImagePreprocessing.from_config(json.loads((folder / "preprocessor_config.json").read_text()))
    photographs = sorted((data / "images").iterdir())
    assert photographs
    for file in photographs:
        expected = processor(Image.open(file).convert("RGB"), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(to_pixels(load_image(file), recipe), expected), file.name


@pytest.mark.parametrize("square", [True, False, None])
@pytest.mark.parametrize("size", [{"height": 336, "width": 336}, {"shortest_edge": 336}, 336])
def test_each_form_of_a_size_is_read_as_clips_processor_does(size, square):
    transformers = pytest.importorskip("transformers")
    config = {**HUB, "size": size} | ({} if square is None else {"default_to_square": square})
    expected = transformers.CLIPImageProcessorPil(**config)(picture(640, 427), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(to_pixels(picture(640, 427), ImagePreprocessing.from_config(config)), expected)


def test_stretching_is_undone_by_its_placement():
    place = placement(600, 400, ImagePreprocessing(384, mode="stretch", patch=14))
    assert place.to_square((0, 0, 600, 400)) == (0, 0, 384, 384)
    assert place.to_picture((192, 96, 384, 384)) == pytest.approx((300, 100, 600, 400))
    assert ImagePreprocessing(384, patch=14).seen == 378


def test_the_recipes_differ_where_a_picture_is_not_square():
    wide = picture(600, 400)
    crop, pad = (to_pixels(wide, ImagePreprocessing(56, mode=mode)) for mode in ("crop", "pad"))
    assert (crop - pad).abs().mean() > 0.5
    square = picture(400, 400)
    crop, pad = (to_pixels(square, ImagePreprocessing(56, mode=mode)) for mode in ("crop", "pad"))
    assert torch.equal(crop, pad)


def test_an_extremely_long_picture_is_padded_but_not_scaled_up_without_end():
    line = picture(4000, 1)
    assert to_pixels(line, ImagePreprocessing(336, mode="pad")).shape == (3, 336, 336)
    with pytest.raises(ImageError, match="4000 x 1 is too long and thin"):
        to_pixels(line, ImagePreprocessing(336, mode="crop"))
    with pytest.raises(ImageError, match="too long and thin"):
        to_pixels(Image.new("RGB", (1, 40_000)), ImagePreprocessing(336, mode="pad"))


def test_a_recipe_describes_itself():
    assert ImagePreprocessing(336, mode="crop").describe() == "crop: short side to 336 (bicubic), centre 336 x 336"
    description = ImagePreprocessing(336, mode="pad").describe()
    assert description == "pad: to a square with colour (122, 116, 104), then 336 x 336 (bicubic)"


# --- which recipe a checkpoint gets -----------------------------------------------------------------------------------

VICUNA = {"text_config": {"_name_or_path": "lmsys/vicuna-7b-v1.5"}}


@pytest.mark.parametrize(
    ("preprocessor", "model", "mode"),
    [
        (HUB, {}, "crop"),
        (HUB, VICUNA, "pad"),
        ({}, VICUNA, "pad"),
        (HUB, {"text_config": {"_name_or_path": "mistralai/Mistral-7B-v0.1"}}, "crop"),
        (HUB, {"image_aspect_ratio": "pad"}, "pad"),
        ({**HUB, "image_aspect_ratio": "pad"}, {}, "pad"),
        ({**HUB, "image_aspect_ratio": "square"}, VICUNA, "crop"),
        ({**HUB, "do_pad": True}, {}, "crop"),  # CLIP's processor pads nothing
        ({**HUB, "do_pad": True, "image_processor_type": "LlavaImageProcessor"}, {}, "pad"),
        ({"image_processor": {"do_pad": True}}, {}, "pad"),
        ({}, {"text_config": None}, "crop"),
    ],
)
def test_default_mode(preprocessor, model, mode):
    assert default_mode(preprocessor, model) == mode


def test_tiles_are_refused():
    with pytest.raises(ConfigError, match="'anyres' is not implemented"):
        default_mode(HUB, {"image_aspect_ratio": "anyres"})


@needs_data
def test_default_mode_of_real_folders():
    data = Path(os.environ["MINIVLM_TEST_DATA"])
    hub = json.loads((data / "llava-1.5-7b-hf" / "preprocessor_config.json").read_text())
    for folder in ("llava-1.5-7b-hf", "liuhaotian-llava-v1.5-7b"):
        assert default_mode(hub, json.loads((data / folder / "config.json").read_text())) == "pad"
    assert ImagePreprocessing.from_config(hub) == ImagePreprocessing(336, mode="crop")


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 336},
        {"size": {"height": 336, "width": 336}, "image_aspect_ratio": "pad"},
        {"image_mean": None, "image_std": None, "resample": None},
        {"do_center_crop": False, "crop_size": None},
        {"image_processor_type": "CLIPImageProcessorFast"},
    ],
)
def test_ways_to_write_the_same_file(changes):
    config = {**HUB, **changes}
    for written in (config, {"image_processor": config, "image_token": "<image>"}):
        assert ImagePreprocessing.from_config(written, mode="pad") == ImagePreprocessing(
            336, CLIP_MEAN, CLIP_STD, "pad"
        )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_processor_type": "LlavaNextImageProcessor"}, "'LlavaNextImageProcessor' is not implemented"),
        ({"image_processor_type": "Idefics3ImageProcessor"}, "is not implemented"),
        ({"image_processor_type": "SiglipImageProcessor", "size": {"shortest_edge": 336}}, "a height and a width"),
        ({"resample": 2}, r"resample 2 is not implemented; 3 \(bicubic\)"),
        ({"do_resize": False}, "do_resize: false"),
        ({"do_normalize": False}, "do_normalize: false"),
        ({"do_rescale": False}, "do_rescale: false"),
        ({"rescale_factor": 1.0}, "rescale_factor 1.0 is not implemented"),
        ({"size": {"shortest_edge": 384}}, "must name one and the same square"),
        ({"size": None}, "must name one and the same square"),
        ({"size": {"height": 336, "width": 224}}, "must name one and the same square"),
        ({"size": "336", "crop_size": None}, "positive whole number, found '336'"),
        ({"size": [336], "crop_size": [336]}, "positive whole number"),
        ({"size": 0, "crop_size": 0}, "positive whole number, found 0"),
        ({"image_mean": [0.5, 0.5]}, "image_mean must be three finite numbers"),
        ({"image_std": [1, 1, float("nan")]}, "image_std must be three finite numbers"),
        ({"image_mean": [0.5, 0.5, 10**310]}, "image_mean must be three finite numbers"),  # beyond every float
        ({"rescale_factor": 10**310}, "rescale_factor 1000"),
        ({"image_std": [1, 1, 0]}, "image_std must be positive"),
        ({"image_mean": "half"}, "image_mean must be three"),
    ],
)
def test_what_is_not_implemented_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ImagePreprocessing.from_config({**HUB, **changes})


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="one of crop, pad, stretch, found 'squash'"):
        ImagePreprocessing.from_config(HUB, mode="squash")


# --- reading pictures -------------------------------------------------------------------------------------------------


def test_all_sources_give_the_same_picture(tmp_path):
    array = noise(31, 17)
    file = tmp_path / "ein Bild é.png"
    Image.fromarray(array).save(file)
    sources = [
        file, str(file), file.read_bytes(), bytearray(file.read_bytes()), Image.open(file), array,
        torch.from_numpy(array), torch.from_numpy(array).permute(2, 0, 1), array / 255, array.astype(np.uint16) * 257,
        (torch.from_numpy(array) / 255).permute(2, 0, 1), np.dstack([array, array[..., 0]]),
    ]  # fmt: skip
    for source in sources:
        image = load_image(source)
        assert image.mode == "RGB"
        assert pixels_of(image) == array.tolist()


def test_the_callers_picture_is_left_alone():
    image = picture(5, 4).convert("RGBA")
    load_image(image)
    assert image.mode == "RGBA"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_formats_by_content_and_not_by_name(tmp_path, kind):
    image = picture(20, 10)
    file = tmp_path / "picture.dat"
    file.write_bytes(encoded(image, kind))
    assert load_image(file).size == (20, 10)
    assert pixels_of(load_image(file)) == pixels_of(Image.open(BytesIO(file.read_bytes())).convert("RGB"))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "PA", "YCbCr", "HSV"])
def test_modes_equal_pillows_conversion(mode):
    image = picture(20, 10).convert("RGB").convert(mode) if mode != "PA" else picture(20, 10).convert("P").convert("PA")
    assert image.mode == mode
    assert pixels_of(load_image(image)) == pixels_of(image.convert("RGB"))


@pytest.mark.parametrize("transparency", [0, bytes(range(256))])
def test_transparent_palettes(transparency):
    image = picture(20, 10).quantize(16)
    data = encoded(image, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow complains when such a palette is converted directly
        warnings.filterwarnings("ignore", "the picture given as .* has transparent pixels")
        loaded = load_image(data)
    assert pixels_of(loaded) == pixels_of(image.convert("RGB"))


def test_transparency_is_dropped_or_laid_on_a_colour():
    clear_red = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    with pytest.warns(UserWarning, match="in mode RGBA has transparent pixels, which are shown in the colour"):
        assert load_image(clear_red).getpixel((0, 0)) == (255, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(clear_red, background=(255, 255, 255)).getpixel((0, 0)) == (255, 255, 255)
        assert load_image(Image.new("RGBA", (2, 2), (255, 0, 0, 255))).getpixel((0, 0)) == (255, 0, 0)  # opaque


def test_cmyk_jpeg():
    image = load_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = image.getpixel((4, 4))
    assert red > 240  # lossy, hence not exactly (255, 0, 0)
    assert max(green, blue) < 15


def test_sixteen_bits_are_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 1024).astype(np.uint16).reshape(32, 32)
    expected = np.rint(ramp / 257).astype(np.uint8)
    for source in (encoded(Image.fromarray(ramp)), Image.fromarray(ramp), Image.fromarray(ramp.astype(np.int32)), ramp):
        assert np.array_equal(np.asarray(load_image(source))[..., 0], expected)
    assert len(np.unique(np.asarray(Image.fromarray(ramp).convert("RGB")))) < 9  # what scaling avoids


@pytest.mark.parametrize(("bits", "largest"), [(8, 255), (12, 4095), (16, 65535)])
def test_a_mode_of_32_bits_holds_as_many_as_its_largest_value_needs(bits, largest):
    shades = np.linspace(0, largest, 256).round().astype(np.int32).reshape(16, 16)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        seen = np.asarray(load_image(Image.fromarray(shades)))
    assert Image.fromarray(shades).mode == "I"
    assert (seen == np.arange(256).reshape(16, 16)[..., None]).all()
    sentences = [str(one.message) for one in told]
    assert len(sentences) == (bits < 16)
    assert all(f"its largest value is {largest}, so {bits}." in sentence for sentence in sentences)


@pytest.mark.parametrize("source", ["array", "picture", "file"])
def test_sixteen_bits_that_hold_only_eight_or_twelve_are_said(source):
    dark = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    image = Image.fromarray(dark)
    given_as = {"array": dark, "picture": image, "file": encoded(image)}
    with pytest.warns(UserWarning, match=r"has 16 bits and no value above 4032: it is nearly black"):
        assert np.asarray(load_image(given_as[source])).max() == round(4032 / 257)
    with pytest.raises(ImageError, match="holds numbers of type int32"):
        load_image(Image.fromarray(np.full((2, 2), 2**16, dtype=np.int32)))
    with pytest.raises(ImageError, match="holds numbers of type int32"):
        load_image(Image.fromarray(np.full((2, 2), -1, dtype=np.int32)))


def test_a_mode_that_nothing_converts_is_a_sentence():
    with pytest.raises(ImageError, match="cannot be converted from mode La to RGB"):
        load_image(Image.new("LA", (2, 2)).convert("La"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured_unless_switched_off(orientation):
    upright = picture(12, 8)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that a camera's turn amounts to
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, exif=exif)
    assert pixels_of(load_image(data)) == pixels_of(upright)
    assert pixels_of(load_image(data, upright=False)) == pixels_of(stored)


def test_corrupt_exif_is_a_warning(monkeypatch):
    def broken(_image):
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr("minivlm.inputs.pictures.ImageOps.exif_transpose", broken)
    with pytest.warns(UserWarning, match="unreadable EXIF data"):
        assert load_image(noise(4, 3)).size == (4, 3)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=60)
def test_no_exif_data_stops_a_picture(garbage):
    data = encoded(picture(6, 5), "JPEG", exif=b"Exif\0\0" + garbage)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sorted(load_image(data).size) == [5, 6]


def test_the_first_frame_of_an_animation(tmp_path):
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(red, kind, save_all=True, append_images=[blue], **options)
        with pytest.warns(UserWarning, match="is an animation; its first frame is used"):
            assert load_image(data).getpixel((0, 0)) == (255, 0, 0)


def test_a_phones_jpeg_with_a_second_picture_is_no_animation():
    data = encoded(picture(16, 8), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 4))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(data).size == (16, 8)


# --- bad pictures -----------------------------------------------------------------------------------------------------


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is this large and holds next to nothing."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99)))
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


GOOD = encoded(picture(60, 40))
BAD_BYTES = {
    "empty": (b"", "is empty"),
    "random": (bytes(range(200)), "damaged or not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "damaged or not a picture"),
    "pdf": (b"%PDF-1.7\n", "damaged or not a picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged or not a picture"),
    "tiff": (encoded(picture(6, 4), "TIFF"), "damaged or not a picture"),
    "cut short": (GOOD[: len(GOOD) // 2], "damaged or cut short"),
    "cut JPEG": (encoded(picture(200, 200), "JPEG")[:3000], "damaged or cut short"),
    "bad checksum": (GOOD[:20] + b"\x01" + GOOD[21:], "damaged"),
    "bomb": (png_of(100_000, 100_000), "far too large"),
}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_bad_bytes_are_a_sentence(tmp_path, case):
    data, sentence = BAD_BYTES[case]
    with pytest.raises(ImageError, match=f"the picture given as {len(data)} bytes .*{sentence}"):
        load_image(data)
    file = tmp_path / "bad.jpg"
    file.write_bytes(data)
    with pytest.raises(ImageError, match=f"bad.jpg' .*{sentence}"):
        load_image(file)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 400))
@settings(deadline=None, max_examples=150)
def test_damage_gives_a_picture_or_an_image_error(changes, cut):
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        data = bytearray(encoded(picture(9, 7), kind))
        for place, value in changes:
            data[place % len(data)] = value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImageError):
                assert load_image(bytes(data[: len(data) - cut % 5])).mode == "RGB"


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "film.jpg").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ImageError, match="2,147,483,648 bytes; at most 268,435,456"):
        load_image(tmp_path / "film.jpg")


def test_bad_paths_are_sentences(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        load_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be looked up"):
        load_image("a\0b.png")
    with pytest.raises(ImageError, match="this machine knows no such user"):
        load_image("~nosuchuser/a.png")
    for address in ("https://example.org/cat.png", "data:image/png;base64,AAAA"):
        with pytest.raises(ImageError, match="Download it and give the file"):
            load_image(address)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a regular file"):
        load_image(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((0, 5, 3), np.uint8), "has no pixels"),
        (np.zeros((5, 0), np.uint8), "has no pixels"),
        (np.zeros((3, 5, 5), np.uint8), r"\(H, W\), \(H, W, 3\) or \(H, W, 4\) was expected"),
        (np.zeros(5, np.uint8), "does not have a picture's shape"),
        (np.zeros((2, 2, 3), np.int64), "numbers of type int64"),
        (np.full((2, 2), np.nan), "0 to 1 was expected"),
        (np.full((2, 2), 255.0), "0 to 1 was expected. Divide by 255"),
        (np.full((2, 2), -0.1), "0 to 1 was expected"),
        (torch.zeros(2, 3, 5, 5), "does not have a picture's shape"),
        (np.zeros((2, 2), complex), "numbers of type complex128"),
    ],
)
def test_bad_arrays_are_sentences(array, sentence):
    with pytest.raises(ImageError, match=sentence):
        load_image(array)


@pytest.mark.parametrize("source", [None, 3, ["a.png"], object()])
def test_other_objects_are_a_sentence(source):
    with pytest.raises(ImageError, match=f"found an object of type {type(source).__name__}"):
        load_image(source)


def test_pillows_zero_sized_picture():
    with pytest.raises(ImageError, match="0 wide and 4 high"):
        load_image(Image.new("RGB", (0, 4)))


def test_half_precision_tensors():
    assert load_image(torch.ones(3, 4, 5, dtype=torch.bfloat16)).getpixel((0, 0)) == (255, 255, 255)


# --- where the square lies on the picture -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (61, 40), (50, 50)])
def test_a_mark_is_found_where_the_placement_says(mode, width, height):
    """Paint a white block on black, make pixels, and look for it in the square."""
    block = (width // 2 - 6, height // 2 + 2, width // 2 + 6, height // 2 + 14)
    image = Image.new("RGB", (width, height))
    image.paste("white", block)
    recipe = ImagePreprocessing(120, mean=(0, 0, 0), std=(1, 1, 1), mode=mode)
    rows, columns = (to_pixels(image, recipe)[0] > 0.5).nonzero(as_tuple=True)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    expected = placement(width, height, recipe).to_square(block)
    assert torch.tensor(found) == pytest.approx(torch.tensor(expected), abs=1)  # edges are blurred by the filter


@pytest.mark.parametrize("mode", ["crop", "pad"])
@given(width=st.integers(1, 2000), height=st.integers(1, 2000))
def test_there_and_back(mode, width, height):
    placed = placement(width, height, ImagePreprocessing(336, mode=mode))
    box = (3.0, 5.0, 17.0, 29.0)
    assert placed.to_picture(placed.to_square(box)) == pytest.approx(box, rel=1e-6, abs=1e-6)
    assert placed.to_square(placed.to_picture(box)) == pytest.approx(box, rel=1e-6, abs=1e-6)


def test_the_whole_square_on_the_picture():
    square = (0, 0, 336, 336)
    assert placement(672, 336, ImagePreprocessing(336, mode="crop")).to_picture(square) == (168, 0, 504, 336)
    assert placement(672, 336, ImagePreprocessing(336, mode="pad")).to_picture(square) == (0, -168, 672, 504)
