"""Headers that take Pillow seconds or gigabytes, recognised before Pillow parses them: GIF's extensions and TIFF's strips.

What is not here: limits on the pixels, and everything that Pillow limits itself (decoding.py).
"""

import struct

MOST_BLOCKS = 20_000
"""Most blocks of a GIF before its first frame: text and colour profiles of a few megabytes."""
MOST_STRIPS = 100_000
"""Most strips or tiles of a TIFF; Pillow makes a Python object of each."""

_OFFSETS = (273, 324)
_LAYOUTS = {42: ("L", 4, "H", "HHL", 12), 43: ("Q", 8, "Q", "HHQ", 20)}
"""version of a TIFF -> its first offset's type and place, the count's type, the start of an entry and its size in bytes"""


def excess(content: bytes) -> str:
    """What the header has too much of, as the end of a sentence; empty if nothing."""
    if content.startswith(b"GIF8") and _gif_blocks(content) > MOST_BLOCKS:
        return f"is a GIF file with more than {MOST_BLOCKS} blocks before its first frame"
    if content[:2] in (b"II", b"MM") and _tiff_strips(content) > MOST_STRIPS:
        return f"is a TIFF file of more than {MOST_STRIPS} strips"
    return ""


def _gif_blocks(content: bytes) -> int:
    """Extensions and their blocks before the first frame, counted up to MOST_BLOCKS."""
    flags = content[10] if len(content) > 10 else 0
    at, blocks = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0), 0
    while content[at : at + 1] == b"\x21" and blocks <= MOST_BLOCKS:
        at, blocks = at + 2, blocks + 1
        while at < len(content) and content[at] and blocks <= MOST_BLOCKS:
            at, blocks = at + 1 + content[at], blocks + 1
        at += 1
    return blocks


def _tiff_strips(content: bytes) -> int:
    """The largest number of strips or tiles that the first page declares; 0 for a header that is cut off."""
    order = "<" if content.startswith(b"II") else ">"
    try:
        (version,) = struct.unpack_from(f"{order}H", content, 2)
        if version not in _LAYOUTS:
            return 0
        offset, place, count, entry, size = _LAYOUTS[version]
        (start,) = struct.unpack_from(order + offset, content, place)
        (entries,) = struct.unpack_from(order + count, content, start)
        start += struct.calcsize(order + count)
        fields = (struct.unpack_from(order + entry, content, start + size * number) for number in range(min(entries, 2**16)))
        return max((values for tag, _, values in fields if tag in _OFFSETS), default=0)
    except (struct.error, OverflowError):
        return 0
