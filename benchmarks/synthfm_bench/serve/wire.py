"""Packs and unpacks arrays of nnInteractive's protocol, and checks them before memory is allocated.

The format and its codec are those of ``nninteractive-client``. Its reader trusts the sender (it allocates what a header
claims, and passes on any dtype), so everything that a header claims is checked here first.
"""

import math
import struct
from dataclasses import dataclass

import blosc2
import numpy as np
from nnInteractive.inference.remote.serialization import MAGIC, VERSION, pack_array, unpack_array
from numpy.typing import NDArray

from synthfm_bench.serve.exchange import TooLargeError
from synthfm_env.errors import InputError

MIB = 1 << 20
DTYPES = frozenset(
    ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
)
_FLOAT_BYTES = 4  # a segmenter computes in float32, so that a voxel takes 4 bytes at least, whatever is sent
_MOST_AXES = 4
_FRAME_HEADER = 32  # bytes of a blosc2 frame before its data
_CODECS = (1, 2)  # Zstandard and LZ4


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """Header of a packed array.

    Attributes:
        dtype: one of ``DTYPES``.
        shape: positive lengths.
        payload: where the compressed chunks begin, in bytes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    payload: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array once it is unpacked."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(packed: bytes, limit_mib: int) -> NDArray:
    """Unpack an array.

    Args:
        packed: a request's body.
        limit_mib: most MiB that the array may take, a voxel counted with at least 4 bytes.

    Raises:
        TooLargeError: the header claims more than that.
        InputError: the bytes are no packed array, or hold less or more than their header claims.

    Example:
        >>> import numpy as np
        >>> read_array(write_array(np.arange(6, dtype=np.int16).reshape(1, 2, 3)), limit_mib=1).shape
        (1, 2, 3)
    """
    header = _read_header(packed)
    check_size(header.shape, header.dtype, limit_mib)
    _check_chunks(packed, header)
    try:
        return unpack_array(packed)
    except (ValueError, RuntimeError, struct.error) as error:
        raise InputError(f"packed array cannot be decompressed ({error}); send it again") from None


def write_array(array: NDArray) -> bytes:
    """Pack an array; masks compress best without a filter."""
    return bytes(pack_array(array, filters=[blosc2.Filter.NOFILTER], nthreads=1))


def check_size(shape: tuple[int, ...], dtype: np.dtype, limit_mib: int) -> None:
    """Raise TooLargeError if an array of that shape takes more than ``limit_mib``."""
    size = math.prod(shape) * max(dtype.itemsize, _FLOAT_BYTES)
    if size > limit_mib * MIB:
        raise TooLargeError(
            f"an array of shape {list(shape)} takes {math.ceil(size / MIB)} MiB, this server's limit is {limit_mib} "
            "MiB; crop or resample the image, or start the server with a larger --limit-mib"
        )


def _read_header(packed: bytes) -> ArrayHeader:
    if len(packed) < 8 or packed[:4] != MAGIC or packed[4] != VERSION:
        raise InputError(f"body is no packed array of version {VERSION}; send one made by nninteractive-client")
    codec, axes, name_length = packed[5:8]
    payload = 8 + name_length + 8 * axes
    if codec not in _CODECS or not 1 <= axes <= _MOST_AXES or len(packed) < payload + 4:
        raise InputError(f"packed array has codec {codec} and {axes} axes; expected codec 1 or 2 and 1 to 4 axes")
    name = packed[8 : 8 + name_length].decode("ascii", "replace")
    if name not in DTYPES:
        raise InputError(f"packed array has dtype {name!a}; expected one of {', '.join(sorted(DTYPES))}")
    shape = struct.unpack_from(f"<{axes}q", packed, 8 + name_length)
    if min(shape) < 1:
        raise InputError(f"packed array has shape {list(shape)}; every length must be positive")
    return ArrayHeader(np.dtype(name), shape, payload)


def _check_chunks(packed: bytes, header: ArrayHeader) -> None:
    """Raise InputError unless the chunks fill the rest of the body, and unpack to the header's size."""
    (count,) = struct.unpack_from("<I", packed, header.payload)
    offset = header.payload + 4
    unpacked = 0
    while offset < len(packed):
        if count == 0 or len(packed) - offset < 16 + _FRAME_HEADER:
            raise InputError("packed array holds more bytes than its chunks claim; send it again")
        size, compressed = struct.unpack_from("<QQ", packed, offset)
        offset += 16
        if not _FRAME_HEADER <= compressed <= len(packed) - offset or size % header.dtype.itemsize:
            raise InputError("packed array is cut off or changed; send it again")
        frame_size, frame_compressed, _ = blosc2.get_cbuffer_sizes(memoryview(packed)[offset : offset + compressed])
        if (frame_size, frame_compressed) != (size, compressed):
            raise InputError("packed array's chunks are unlike their headers; send it again")
        unpacked += size
        offset += compressed
        count -= 1
    if count or unpacked != header.nbytes:
        raise InputError(f"packed array holds {unpacked} bytes, its header claims {header.nbytes}; send it again")
