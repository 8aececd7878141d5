"""Decodes image files that clients send into model input.

One small PNG for a small model input is decoded in the event loop; everything else is parsed and decoded in threads.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from openmlops.errors import DataError
from openmlops.usecases.base import ModelInput, UseCase

if TYPE_CHECKING:
    from openmlops.serving.predictor import Predictor

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALL_PIXELS, SMALL_BYTES = 128 * 128, 128 * 128 * 4
"""size up to which decoding a PNG is faster than switching to a thread"""
DECODERS = 2
"""threads for larger images, each of which holds one decoded image: up to 50 MB, or one of them up to MAX_MEGAPIXELS"""

Read = TypeVar("Read")


class ImageReader:
    """Decodes images for one use case."""

    def __init__(self, use_case: UseCase) -> None:
        self._use_case = use_case
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")

    async def read(self, contents: Sequence[bytes], served: "Predictor") -> ModelInput:
        """Image files -> model input of that version. Raises DataError.

        Only the model input is kept in memory: a decoded image may be a hundred times as large.
        """
        height, width, _ = served.image_shape
        if len(contents) == 1 and height * width <= SMALL_PIXELS and _is_small(contents[0]):
            return self._decode_input(contents[0], served)
        return ModelInput.joined([await self._in_thread(self._decode_input, content, served) for content in contents])

    async def decode(self, content: bytes, work: Callable[[np.ndarray], Read]) -> Read:
        """Decode an image file and return the result of `work` on uint8 (h, w, 3), in one thread. Raises DataError."""
        return await self._in_thread(lambda: work(self._use_case.decode(content)))

    async def _in_thread(self, work: Callable[..., Read], *arguments: Any) -> Read:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _decode_input(self, content: bytes, served: "Predictor") -> ModelInput:
        return served.to_model_input([self._use_case.decoded(content, served.image_shape[:2])])

    def stop(self) -> None:
        """End the threads."""
        self._threads.shutdown()


def _is_small(content: bytes) -> bool:
    """Whether it is a small PNG, by its width and height at a fixed offset; decoding detects a truncated file later."""
    if not content.startswith(PNG_SIGNATURE) or len(content) > SMALL_BYTES:
        return False
    return int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big") <= SMALL_PIXELS


def is_multipart(request: Request) -> bool:
    """Whether the body has several images; any other content type is treated as one image."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def files(request: Request, most: int) -> list[bytes]:
    """The files of a multipart body in order, at most `most`. Raises HTTPException or DataError."""
    async with request.form(max_files=most, max_fields=most) as form:
        parts = [part for _, part in form.multi_items()]
        if not parts:
            raise DataError("The multipart body has no file", "Send one or more images as files")
        strange = [name for name, part in form.multi_items() if not isinstance(part, UploadFile)]
        if strange:
            raise HTTPException(422, f"The part {strange[0][:80]!r} is not a file; give it a filename")
        return [await part.read() for part in parts if isinstance(part, UploadFile)]
