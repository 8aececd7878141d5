"""The Open Inference Protocol v2: tensors as JSON, or as raw bytes behind the JSON (the binary tensor extension).

The images are pixels (UINT8), or image files (BYTES; in JSON as base64), of the formats that /predict takes.

Parses request bytes into images and requested outputs, and serializes predictions. Not here: HTTP routes. Invalid requests
raise ProtocolError, whose text is sent to the client.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from openmlops.errors import OpenMLOpsError
from openmlops.serving.predictor import Predictor
from openmlops.serving.responses import RESPONSE_FORMATS

LENGTH_HEADER = "Inference-Header-Content-Length"
INPUT = "images"
EXTENSIONS = ("binary_tensor_data",)


class ProtocolError(OpenMLOpsError):
    """The request violates the Open Inference Protocol, or requests something that this model does not support."""


@dataclass(frozen=True)
class InferRequest:
    """A parsed request: n images, each uint8 (height, width, 3) or a file, and the requested outputs, each raw or as JSON."""

    id: str
    images: Sequence[np.ndarray] | Sequence[bytes]
    outputs: Mapping[str, bool]
    """name -> whether as raw bytes"""


def output_shapes(predictor: Predictor) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Output name -> (datatype, shape of one row)."""
    predictions = RESPONSE_FORMATS[predictor.task.kind]
    return {"prediction_id": ("BYTES", ()), **predictions.shapes(len(predictor.classes), predictor.embedding)}


def metadata(predictor: Predictor) -> dict[str, Any]:
    """The model metadata of /v2/models/{name}."""
    shapes = output_shapes(predictor).items()
    return {
        "name": predictor.name,
        "versions": [str(predictor.version)],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *predictor.image_shape]}],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1, *shape]} for name, (datatype, shape) in shapes],
    }


# Reading


def read(body: bytes, header_length: str | None, shape: tuple[int, int, int], most: int, names: Sequence[str]) -> InferRequest:
    """Parse a request for images of `shape`, at most `most` of them, and outputs among `names`. Raises ProtocolError."""
    size = _length(header_length, len(body))
    request = _object(_json(body[:size]), "The request")
    tensors = request.get("inputs")
    if not isinstance(tensors, list) or len(tensors) != 1:
        raise ProtocolError(f"The request must have exactly one input, '{INPUT}'")
    identity = _given(request, "id", "")
    if not isinstance(identity, str):
        raise ProtocolError(f"The id {identity!r} is not a string")
    parameters = _object(_given(request, "parameters", {}), "'parameters'")
    return InferRequest(
        id=identity,
        images=_images(_object(tensors[0], "The input"), body[size:], shape, most),
        outputs=_requested_outputs(request.get("outputs"), bool(parameters.get("binary_data_output", False)), names),
    )


def _length(header_length: str | None, total: int) -> int:
    if header_length is None:
        return total
    digits = header_length.isascii() and header_length.isdecimal() and len(header_length) <= len(str(total))
    if not digits or int(header_length) > total:
        raise ProtocolError(f"{LENGTH_HEADER} is '{header_length[:40]}', but the body has {total} bytes")
    return int(header_length)


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"The request is not JSON: {error}", f"With raw tensors, send {LENGTH_HEADER}") from error


def _given(value: dict[str, Any], name: str, default: Any) -> Any:
    """An optional field, which clients also send as null."""
    found = value.get(name)
    return default if found is None else found


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} is not a JSON object")
    return value


def _images(
    tensor: dict[str, Any], raw: bytes, image: tuple[int, int, int], most: int
) -> Sequence[np.ndarray] | Sequence[bytes]:
    name, datatype = tensor.get("name"), tensor.get("datatype")
    if name != INPUT or datatype not in ("UINT8", "BYTES"):
        raise ProtocolError(f"The input is {name!r} of {datatype!r}, not '{INPUT}' of 'UINT8' (pixels) or 'BYTES' (files)")
    return list(_pixels(tensor, raw, image, most)) if datatype == "UINT8" else _files(tensor, raw, most)


def _files(tensor: dict[str, Any], raw: bytes, most: int) -> list[bytes]:
    """Image files: base64 in JSON, or each after its length in four bytes."""
    shape: Any = tensor.get("shape")
    if not _is_shape(shape) or shape[1:] not in ([], [1]) or not 1 <= shape[0] <= most:
        raise ProtocolError(f"The input's shape is {str(shape)[:80]}, not [n] with n from 1 to {most}")
    size = _object(_given(tensor, "parameters", {}), "The input's 'parameters'").get("binary_data_size")
    if size is None:
        found = _from_base64(tensor.get("data"), raw)
    elif tensor.get("data") is not None or size != len(raw):
        raise ProtocolError(f"{len(raw)} raw bytes were received; binary_data_size is {str(size)[:40]}")
    else:
        found = _from_lengths(raw)
    if len(found) != shape[0]:
        raise ProtocolError(f"{len(found)} files were received; the shape requires {shape[0]}")
    return found


def _from_base64(data: Any, raw: bytes) -> list[bytes]:
    if raw:
        raise ProtocolError(f"{len(raw)} raw bytes were received, but the input has no binary_data_size")
    texts = [text for row in data for text in (row if isinstance(row, list) else [row])] if isinstance(data, list) else [data]
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError, TypeError) as error:
        raise ProtocolError(f"The input's data is not a list of base64 strings ({error})") from error


def _from_lengths(raw: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(raw):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        found.append(raw[start:at])
    if at != len(raw):
        raise ProtocolError("The raw bytes are not files, each after its length in four little-endian bytes")
    return found


def _pixels(tensor: dict[str, Any], raw: bytes, image: tuple[int, int, int], most: int) -> np.ndarray:
    """uint8 (n, height, width, 3)"""
    shape: Any = tensor.get("shape")
    if not _is_shape(shape) or tuple(shape[1:]) != image or not 1 <= shape[0] <= most:
        raise ProtocolError(
            f"The input's shape is {str(shape)[:80]}, not [n, {', '.join(map(str, image))}] with n from 1 to {most}"
        )
    parameters = _object(_given(tensor, "parameters", {}), "The input's 'parameters'")
    size = parameters.get("binary_data_size")
    if size is None:
        return _from_json(tensor.get("data"), raw, shape)
    count = int(np.prod(shape))
    if tensor.get("data") is not None or size != count or len(raw) != count:
        raise ProtocolError(
            f"{len(raw)} raw bytes were received (binary_data_size {str(size)[:40]}); the shape requires {count}"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and bool(shape) and all(type(size) is int for size in shape)


def _from_json(data: Any, raw: bytes, shape: list[int]) -> np.ndarray:
    if raw:
        raise ProtocolError(f"{len(raw)} raw bytes were received, but the input has no binary_data_size")
    try:
        values = np.array(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(f"The input's data is not a tensor ({error})") from error
    if values.dtype.kind not in "iu" or values.size != np.prod(shape) or values.min() < 0 or values.max() > 255:
        raise ProtocolError(f"The input's data is not {np.prod(shape)} whole numbers from 0 to 255")
    return values.astype(np.uint8).reshape(shape)


def _requested_outputs(outputs: Any, raw: bool, names: Sequence[str]) -> dict[str, bool]:
    if not outputs:
        return dict.fromkeys(names, raw)
    if not isinstance(outputs, list):
        raise ProtocolError("'outputs' is not a list")
    wanted: dict[str, bool] = {}
    for output in outputs:
        name: Any = _object(output, "An output").get("name")
        parameters = _object(_given(output, "parameters", {}), "An output's 'parameters'")
        if name not in names:
            raise ProtocolError(f"There is no output {str(name)[:80]!r}", f"Request {', '.join(names)}")
        if "classification" in parameters:
            raise ProtocolError("The classification extension is not supported", f"Request {', '.join(names)}")
        wanted[name] = bool(parameters.get("binary_data", raw))
    return wanted


# Writing


def write(predictor: Predictor, request: InferRequest, tensors: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the response. `tensors` has all outputs by name, of which the requested ones are sent."""
    datatypes = output_shapes(predictor)
    described, raw = [], []
    for name, is_raw in request.outputs.items():
        tensor = tensors[name]
        output: dict[str, Any] = {"name": name, "datatype": datatypes[name][0], "shape": list(tensor.shape)}
        if is_raw:
            raw.append(_raw(tensor))
            output["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            output["data"] = tensor.ravel().tolist()
        described.append(output)
    head = {"model_name": predictor.name, "model_version": str(predictor.version), "outputs": described}
    header = orjson.dumps({"id": request.id, **head} if request.id else head)
    if not raw:
        return header, {"Content-Type": "application/json"}
    return b"".join((header, *raw)), {"Content-Type": "application/octet-stream", LENGTH_HEADER: str(len(header))}


def _raw(tensor: np.ndarray) -> bytes:
    """Little-endian bytes; each text is preceded by its length in four bytes."""
    if tensor.dtype.kind in "OU":
        return b"".join(len(text).to_bytes(4, "little") + text for text in (str(one).encode() for one in tensor))
    return np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).tobytes()
