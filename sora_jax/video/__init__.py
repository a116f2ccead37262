"""Bytes ⇄ clip: decode, resample in time, resize, crop, write, and the uint8 ⇄ [-1, 1] convention.

A clip is uint8 `f h w c`, RGB, upright. Files come in through `decode`, arrays change shape in `frames`, files and
pictures for people leave through `write`.
"""
from sora_jax.video.decode import LIMIT, REASONS, Info, MediaError, probe, read, stream
from sora_jax.video.frames import METHODS, crop_center, enlarge, resample, resize_area, to_float, to_uint8, window
from sora_jax.video.image import read_image, write_image
from sora_jax.video.write import WRITERS, contact_sheet, encode_mp4, stream_mp4, write_gif, write_mp4, write_webp

__all__ = [
    "LIMIT", "METHODS", "REASONS", "WRITERS", "Info", "MediaError", "contact_sheet", "crop_center", "encode_mp4",
    "enlarge", "probe", "read", "read_image", "resample", "resize_area", "stream", "stream_mp4", "to_float",
    "to_uint8", "window", "write_gif", "write_image", "write_mp4", "write_webp",
]
