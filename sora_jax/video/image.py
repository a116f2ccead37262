"""Still pictures: one read at a clip's size, one written."""
import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from sora_jax.video.decode import LIMIT, MediaError, Place
from sora_jax.video.frames import crop_center, resize_area
from sora_jax.video.write import commit

FORMATS = ("PNG", "JPEG", "WEBP")


def read_image(path: Place, height: int, width: int, limit: int = LIMIT) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """A picture, upright, cropped at its centre to the aspect and resized by area. Raises MediaError, an InputError."""
    name = ascii(str(path))
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height * 3 > limit:
                raise MediaError("too_large", f"{name} has {picture.width}x{picture.height} pixels, over the limit of "
                                              f"{limit} bytes; shrink it")
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except FileNotFoundError as error:
        raise MediaError("missing", f"no picture at {name}") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError("format", f"{name} is not a picture that can be read; give a PNG, JPEG or WebP") from error
    return resize_area(crop_center(pixels, height, width), height, width)


def write_image(path: Place, pixels: UInt8[np.ndarray, "h w 3"]) -> Path:
    """A PNG, or what the ending says; makes the folder."""
    path, buffer = Path(path), io.BytesIO()
    kind = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    Image.fromarray(pixels).save(buffer, kind)
    return commit(path, buffer.getvalue())
