"""One HTML file that outlives its run: text, tables, pictures and looping films inside it, no link to anywhere.

Everything given is data: text is escaped, pictures and films become data URIs.
"""
import base64
import html
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sora_jax import disk
from sora_jax.types import InputError

TYPES = {".png": "image/png", ".gif": "image/gif", ".webp": "image/webp", ".jpg": "image/jpeg", ".svg": "image/svg+xml",
         ".mp4": "video/mp4"}
MAGIC = {".png": b"\x89PNG", ".gif": b"GIF8", ".webp": b"RIFF....WEBP", ".jpg": b"\xff\xd8\xff",
         ".svg": b"<svg|<\\?xml", ".mp4": b"....ftyp"}
Media = str | os.PathLike | bytes | np.ndarray

STYLE = """
body { margin: 0 auto; max-width: 1080px; padding: 32px 20px 80px; background: #fff; color: #1c1e21;
       font: 16px/1.55 system-ui, sans-serif }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 24px }
h2 { font-size: 21px; margin: 44px 0 12px; padding-top: 16px; border-top: 1px solid #e3e5e8 }
p { max-width: 760px; white-space: pre-line }
table { border-collapse: collapse; margin: 16px 0; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 5px 14px 5px 0; text-align: left; border-bottom: 1px solid #e3e5e8; vertical-align: top }
th { color: #5b6068; font-weight: 600 }
pre { background: #f5f6f7; border-radius: 6px; padding: 12px 14px; overflow-x: auto; font-size: 13px }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 16px; margin: 16px 0 }
.wide { overflow-x: auto }
figure { margin: 16px 0 }
.cards figure { margin: 0 }
img { max-width: 100%; height: auto }
video, .cards img { width: 100%; border-radius: 6px; background: #f0f0f0; image-rendering: pixelated }
figcaption { font-size: 13px; color: #5b6068; margin-top: 4px; overflow-wrap: anywhere }
"""


class Text(NamedTuple):
    """A paragraph; line breaks are kept."""

    text: str


class Table(NamedTuple):
    """A header and rows; cells are shown with `str`, floats with four digits."""

    header: Sequence[str]
    rows: Sequence[Sequence]


class Figure(NamedTuple):
    """An image: a file, the bytes of one, or uint8 `h w c`."""

    image: Media
    caption: str = ""


class Movie(NamedTuple):
    """A clip that plays by itself, muted, for ever: an MP4 file or its bytes (a GIF or WebP is shown as an image)."""

    video: str | os.PathLike | bytes
    caption: str = ""


class Pre(NamedTuple):
    """Text in a fixed-width font: a config, a command, a log."""

    text: str


Block = Text | Table | Figure | Movie | Pre


class Section(NamedTuple):
    """A heading and what stands under it. Neighbouring films share a grid of cards."""

    heading: str
    blocks: Sequence[Block | str]


def page(path: str | os.PathLike, title: str, sections: Sequence[Section | tuple]) -> Path:
    """Write the page, whole or not at all. Raises InputError naming a picture or film that cannot be put in."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for heading, blocks in sections:
        parts.append(f"<section><h2>{html.escape(heading)}</h2>{_blocks(blocks)}</section>")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    text = f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{"".join(parts)}\n</body></html>\n'
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    disk.write(Path(path), text.encode("utf-8", "replace"))
    return Path(path)


def _blocks(blocks: Sequence[Block | str]) -> str:
    parts, cards = [], []
    for block in [*blocks, None]:
        if isinstance(block, Movie):
            cards.append(_movie(block))
            continue
        if cards:
            parts.append(f'<div class="cards">{"".join(cards)}</div>')
            cards = []
        if block is not None:
            parts.append(_block(Text(block) if isinstance(block, str) else block))
    return "\n".join(parts)


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Pre(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table(header, rows):
            body = "".join(_row("td", row) for row in rows)
            return f'<div class="wide"><table><thead>{_row("th", header)}</thead><tbody>{body}</tbody></table></div>'
        case Figure(image, caption):
            return f'<figure><img alt="{html.escape(caption)}" src="{uri(image)}">{_caption(caption)}</figure>'
    raise InputError(f"a page holds Text, Table, Figure, Movie and Pre; got {type(block).__name__}")


def _movie(block: Movie) -> str:
    source = uri(block.video)
    if source.startswith("data:video/mp4"):
        shown = f'<video autoplay loop muted playsinline src="{source}"></video>'
    else:
        shown = f'<img alt="{html.escape(block.caption)}" src="{source}">'
    return f"<figure>{shown}{_caption(block.caption)}</figure>"


def _row(tag: str, cells: Sequence) -> str:
    texts = (f"{cell:.4g}" if isinstance(cell, float | np.floating) else str(cell) for cell in cells)
    return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in texts)}</tr>"


def _caption(text: str) -> str:
    return f"<figcaption>{html.escape(text)}</figcaption>" if text else ""


def uri(media: Media) -> str:
    """A picture or film as a data URI. Its kind is read from its first bytes, not its name."""
    if isinstance(media, np.ndarray):
        buffer = io.BytesIO()
        Image.fromarray(media).save(buffer, "PNG")
        data, name = buffer.getvalue(), "an array"
    elif isinstance(media, bytes):
        data, name = media, f"{len(media)} bytes"
    else:
        name = str(media)
        try:
            data = Path(media).read_bytes()
        except OSError as error:
            raise InputError(f"{name} cannot be put in the page ({error.strerror})") from error
    kind = next((kind for kind, magic in MAGIC.items() if re.match(magic, data, re.DOTALL)), None)
    if kind is None:
        raise InputError(f"{name} cannot be put in the page: it is none of {', '.join(kind[1:] for kind in TYPES)}")
    return f"data:{TYPES[kind]};base64,{base64.b64encode(data).decode()}"
