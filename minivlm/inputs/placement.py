"""From places on a picture to places on the model's square, and back."""

from dataclasses import dataclass

from minivlm.inputs.image import Box, ImagePreprocessing, scaled_size


@dataclass(frozen=True)
class Placement:
    """From the picture to the model's square: square = picture * scale + offset, in pixels, for x and y."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_picture(self, box: Box) -> Box:
        """A box in the square's pixels -> the picture's pixels. Under `pad` it may lie outside: that is padding."""
        (x_scale, y_scale), (x_offset, y_offset) = self.scale, self.offset
        left, top, right, bottom = box
        return (
            (left - x_offset) / x_scale,
            (top - y_offset) / y_scale,
            (right - x_offset) / x_scale,
            (bottom - y_offset) / y_scale,
        )

    def to_square(self, box: Box) -> Box:
        """A box in the picture's pixels -> the square's pixels. Under `crop` it may lie outside: that is cut off."""
        (x_scale, y_scale), (x_offset, y_offset) = self.scale, self.offset
        left, top, right, bottom = box
        return (
            left * x_scale + x_offset,
            top * y_scale + y_offset,
            right * x_scale + x_offset,
            bottom * y_scale + y_offset,
        )


def placement(width: int, height: int, preprocessing: ImagePreprocessing) -> Placement:
    """Where the preprocessing puts a picture of `width` x `height` pixels."""
    if preprocessing.mode == "crop":
        scaled_width, scaled_height = scaled_size(width, height, preprocessing.size)
        left, top = (scaled_width - preprocessing.size) // 2, (scaled_height - preprocessing.size) // 2
        return Placement((scaled_width / width, scaled_height / height), (-float(left), -float(top)))
    if preprocessing.mode == "stretch":
        return Placement((preprocessing.size / width, preprocessing.size / height), (0.0, 0.0))
    side = max(width, height)
    scale = preprocessing.size / side
    return Placement((scale, scale), ((side - width) // 2 * scale, (side - height) // 2 * scale))
