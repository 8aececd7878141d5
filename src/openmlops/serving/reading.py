"""Bodies of /predict -> images.

Small ones are decoded at once, large ones beside the event loop, none before its header is judged.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from openmlops.core.decoding import image_pixels
from openmlops.errors import DataError
from openmlops.usecases.base import UseCase

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALL_PIXELS = 128 * 128
"""decoded in less than the time that another thread costs"""
DECODERS = 2
"""threads for larger images: each holds one decoded, up to 60 MB"""


class ImageReader:
    """Decodes for one use case."""

    def __init__(self, use_case: UseCase) -> None:
        self._use_case = use_case
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")

    async def decode(self, contents: Sequence[bytes]) -> np.ndarray:
        """PNG or JPEG files -> uint8 (n, height, width, 3). Raises DataError."""
        return np.stack([await self._decode(content) for content in contents])

    async def _decode(self, content: bytes) -> np.ndarray:
        if _pixels(content) <= SMALL_PIXELS:
            return self._use_case.decode(content)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._use_case.decode, content)

    def stop(self) -> None:
        """End the threads."""
        self._threads.shutdown()


def _pixels(content: bytes) -> int:
    """Width times height. That of a PNG stands at a fixed place, and whether it is a whole one decoding will tell."""
    if content.startswith(PNG_SIGNATURE):
        return int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big")
    return image_pixels(content)


def is_multipart(request: Request) -> bool:
    """Several images in one body; anything else is one image, whatever type its sender names."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def files(request: Request, most: int) -> list[bytes]:
    """The files of a multipart body, in its order. Raises HTTPException or DataError."""
    async with request.form(max_files=most, max_fields=most) as form:
        parts = [part for _, part in form.multi_items()]
        if not parts:
            raise DataError("The multipart body has no file", "Send one or more images as files")
        strange = [name for name, part in form.multi_items() if not isinstance(part, UploadFile)]
        if strange:
            raise HTTPException(422, f"The part {strange[0][:80]!r} is no file; give it a filename")
        return [await part.read() for part in parts if isinstance(part, UploadFile)]
