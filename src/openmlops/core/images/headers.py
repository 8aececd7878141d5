"""Headers that take Pillow seconds or gigabytes, recognised before Pillow parses them: GIF's extensions, TIFF's strips, and
the chunks of PNG, and the markers and scans of JPEG.

What is not here: limits on the pixels, and everything that Pillow limits itself (decoding.py).
"""

import struct

MOST_BLOCKS = 20_000
"""Most blocks of a GIF before its first frame: text and colour profiles of a few megabytes."""
MOST_STRIPS = 100_000
"""Most strips or tiles of a TIFF; Pillow makes a Python object of each."""

MOST_PARTS = 1_000
"""Most chunks of a PNG or markers of a JPEG, and one more for each PART_BYTES: Pillow steps through them in Python."""
PART_BYTES = 1024
MOST_SCANS = 100
"""Most scans of a progressive JPEG, which have about ten: each is a pass over the whole image."""

_OFFSETS = (273, 324)
_LAYOUTS = {42: ("L", 4, "H", "HHL", 12), 43: ("Q", 8, "Q", "HHQ", 20)}
"""version of a TIFF -> its first offset's type and place, the count's type, the start of an entry and its size in bytes"""


def excess(content: bytes) -> str:
    """What the header has too much of, as the end of a sentence; empty if nothing."""
    if content.startswith(b"GIF8") and _gif_blocks(content) > MOST_BLOCKS:
        return f"is a GIF file with more than {MOST_BLOCKS} blocks before its first frame"
    if content[:2] in (b"II", b"MM") and _tiff_strips(content) > MOST_STRIPS:
        return f"is a TIFF file of more than {MOST_STRIPS} strips"
    most = MOST_PARTS + len(content) // PART_BYTES
    if content.startswith(b"\x89PNG") and _png_chunks(content, most) > most:
        return f"is a PNG file of more than {most} chunks"
    if content.startswith(b"\xff\xd8"):
        if _jpeg_markers(content, most) > most:
            return f"is a JPEG file of more than {most} markers"
        if content.count(b"\xff\xda") > MOST_SCANS:  # never within the data of a scan, where a zero follows 0xff
            return f"is a JPEG file of more than {MOST_SCANS} scans"
    return ""


def _png_chunks(content: bytes, most: int) -> int:
    """Chunks, counted up to `most`."""
    at, chunks = 8, 0
    while at < len(content) and chunks <= most:
        at, chunks = at + 12 + int.from_bytes(content[at : at + 4], "big"), chunks + 1
    return chunks


def _jpeg_markers(content: bytes, most: int) -> int:
    """Markers before the first scan, counted up to `most`."""
    at, markers = 2, 0
    while content[at : at + 1] == b"\xff" and content[at : at + 2] != b"\xff\xda" and markers <= most:
        at, markers = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big"), markers + 1
    return markers


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
