"""What counts as an array, and how it is cut into pieces.

The core takes NumPy arrays, CPU arrays of any library that speaks DLPack (shared, not copied; bfloat16 by bit pattern),
what offers only ``__array__``, and, passed through untouched, arrays with ``__cuda_array_interface__``. Element types
are float16, bfloat16, float32 and float64. Everything else is refused here, before any number is read.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.errors import (
    DeviceMismatchError,
    EmptyInputError,
    ReadOnlyArrayError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)

Array = npt.NDArray[Any]
Index = tuple[Any, ...]

PIECE = 1 << 18
"""Elements of one piece: large enough to hide the cost of a call, small enough for a core's cache."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_BFLOAT16_TYPESTR = "<V2"
_DLPACK_UNSIGNED = 1
# Where DLTensor.dtype.code lies in a DLManagedTensor and in a DLManagedTensorVersioned (dlpack.h, 64-bit).
_DTYPE_CODE_OFFSET = {b"dltensor": 20, b"dltensor_versioned": 52}
# What libraries raise when an array's numbers cannot be reached.
_UNREADABLE = (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError)


class Named(NamedTuple):
    """An array and what error messages call it."""

    name: str
    array: Any


def is_cuda(array: object) -> bool:
    """Whether the array lies in the memory of a CUDA device."""
    return hasattr(array, "__cuda_array_interface__")


def is_array(value: object) -> bool:
    """Whether ``value`` is one array (or one float), as opposed to a collection of arrays."""
    return isinstance(value, (np.ndarray, np.generic, float)) or any(
        hasattr(value, name) for name in ("__dlpack__", "__cuda_array_interface__", "__array__")
    )


def as_array(value: Any, name: str = "the array", writable: bool = False) -> Any:
    """``value`` as a NumPy array that shares its memory, or ``value`` itself if it lies on a CUDA device.

    Args:
        value: a NumPy array, a float, or an object with ``__dlpack__``, ``__array__`` or ``__cuda_array_interface__``.
        name: what to call it in an error.
        writable: whether it will be written in place; then a copy made by ``__array__`` is refused.

    Raises:
        UnsupportedDtypeError: not an array, a masked one, or its elements are not float16, bfloat16, float32, float64.
        ReadOnlyArrayError: ``writable``, but the memory cannot be shared.
    """
    result = _any_array(value, name, writable)
    dtype = dtype_of(result)
    if not (dtype.kind == "f" and dtype.itemsize <= 8) and dtype.name not in _FLOATS:
        raise UnsupportedDtypeError(
            f"{name} has dtype {dtype}; only {', '.join(_FLOATS)} have a saliency order: convert it first"
        )
    if not dtype.isnative:
        raise UnsupportedDtypeError(
            f"{name} is stored in the other byte order: convert it to {dtype.newbyteorder('=')}"
        )
    return result


def as_mask(value: Any, name: str = "the mask", packed: bool = False) -> Any:
    """``value`` as a NumPy array of bool that shares its memory, or ``value`` itself if it lies on a CUDA device.

    Args:
        value: as in :func:`as_array`.
        name: what to call it in an error.
        packed: whether uint8, a packed mask, is taken too.

    Raises:
        UnsupportedDtypeError: its elements are not bool.
    """
    result = _any_array(value, name, writable=False)
    dtype = dtype_of(result)
    if dtype != np.bool_ and not (packed and dtype == np.uint8):
        raise UnsupportedDtypeError(f"{name} has dtype {dtype}; a mask is of bool, True where kept, or packed")
    return result


def as_arrays(arrays: Any, names: Sequence[str] | None = None, writable: bool = False) -> list[Named]:
    """One array, or an iterable of arrays, as a list of named arrays; names default to the position in the list.

    Raises:
        UnsupportedDtypeError, ReadOnlyArrayError: as :func:`as_array`.
        ShapeMismatchError: ``names`` and arrays differ in number.
    """
    single = is_array(arrays)
    if not single and not isinstance(arrays, Iterable):
        advice = ": call it, and give what it returns" if callable(arrays) else ""
        raise UnsupportedDtypeError(f"expected an array or a list of arrays, got {type(arrays).__name__}{advice}")
    values = [arrays] if single else list(arrays)
    labels = (
        list(names) if names is not None else ["the array"] if single else [f"array {i}" for i in range(len(values))]
    )
    if len(labels) != len(values):
        raise ShapeMismatchError(f"{len(values)} arrays but {len(labels)} names")
    return [Named(label, as_array(value, label, writable)) for label, value in zip(labels, values, strict=True)]


class Stream:
    """Arrays that are made anew for each pass over them, so that they never lie in memory together.

    Args:
        produce: called for each pass; gives an iterable of arrays, the same ones each time.
    """

    def __init__(self, produce: Callable[[], Any]) -> None:
        self._produce = produce
        self._first: tuple[int, list[str]] | None = None

    def __iter__(self) -> Iterator[Named]:
        """The arrays of one pass.

        Raises:
            UnsupportedDtypeError: as :func:`as_array`, or the callable gives nothing that could hold arrays.
            ShapeMismatchError: at its end, if it saw another number of elements, or other dtypes, than the first pass.
        """
        given = self._produce()
        if not is_array(given) and not isinstance(given, Iterable):
            raise UnsupportedDtypeError(f"the callable gives a {type(given).__name__}: let it return arrays, each time")
        size = 0
        dtypes: set[str] = set()
        for number, value in enumerate([given] if is_array(given) else given):
            array = as_array(value, f"chunk {number}")
            size, dtypes = size + math.prod(array.shape), dtypes | {dtype_of(array).name}
            yield Named(f"chunk {number}", array)
        seen = size, sorted(dtypes)
        if self._first not in (None, seen):
            raise ShapeMismatchError(
                f"one pass saw {_told(*self._first)} where another saw {_told(*seen)}: the callable must give the same "
                "arrays anew each time it is called"
            )
        self._first = seen


def _told(size: int, dtypes: Sequence[str]) -> str:
    return f"{size} numbers of {' and '.join(dtypes) or 'no type'}"


Source = Sequence[Named] | Stream
"""Named arrays that can be read again and again."""


def as_source(arrays: Any, names: Sequence[str] | None = None) -> Source:
    """An array, an iterable of arrays, or a callable (or its :class:`Stream`) that gives one for each pass."""
    if isinstance(arrays, Stream):
        return arrays
    if callable(arrays) and not is_array(arrays):
        return Stream(arrays)
    return as_arrays(arrays, names)


def require_alike(first: Named, second: Named) -> None:
    """Check that two arrays can be combined element by element.

    Raises:
        ShapeMismatchError: their shapes differ.
        DeviceMismatchError: one lies on a CUDA device, the other does not.
    """
    if tuple(first.array.shape) != tuple(second.array.shape):
        raise ShapeMismatchError(
            f"{first.name} has shape {tuple(first.array.shape)}, {second.name} {tuple(second.array.shape)}"
        )
    require_one_device(first, second)


def require_one_device(first: Named, second: Named) -> None:
    """Check that both arrays, or neither, lie on a CUDA device.

    Raises:
        DeviceMismatchError: only one does.
    """
    if is_cuda(first.array) != is_cuda(second.array):
        raise DeviceMismatchError(f"{first.name} and {second.name} lie on different devices: move one of them")


def total_size(arrays: Iterable[Named]) -> int:
    """The number of elements of all arrays.

    Raises:
        EmptyInputError: there is none.
    """
    size: int = sum(math.prod(item.array.shape) for item in arrays)
    if size == 0:
        raise EmptyInputError("no array with at least one element was given")
    return size


def dtype_of(array: Any) -> np.dtype[Any]:
    """The element type, for arrays of the CPU and of CUDA devices alike."""
    if is_cuda(array):
        typestr = str(array.__cuda_array_interface__["typestr"])
        return _bfloat16() if typestr == _BFLOAT16_TYPESTR else np.dtype(typestr)
    dtype: np.dtype[Any] = array.dtype
    return dtype


def single_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which a value is computed with: bfloat16 counts as the float32 of the same value."""
    return dtype if dtype.kind == "f" else np.dtype(np.float32)


def common_dtype(arrays: Iterable[Named]) -> np.dtype[Any]:
    """The type that holds the values of all arrays exactly; bfloat16 counts as float32."""
    dtype: np.dtype[Any] = np.result_type(*(single_dtype(dtype_of(item.array)) for item in arrays))
    return dtype


def partition(shape: Sequence[int], limit: int = PIECE) -> Iterator[Index]:
    """Index tuples that cut an array of that shape into consecutive pieces in C order, of at most ``limit`` elements.

    An index is integers for the leading axes and one slice; for a 0-d array it is ``...``. Indexing by it gives a view.
    """
    if math.prod(shape) == 0:
        return
    axis = 0
    while axis < len(shape) - 1 and math.prod(shape[axis + 1 :]) > limit:
        axis += 1
    if not shape:
        yield (...,)
        return
    rows = max(1, limit // math.prod(shape[axis + 1 :]))
    for lead in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], rows):
            yield (*lead, slice(start, min(start + rows, shape[axis])))


def as_stored(first: Array, *others: Array) -> list[Array]:
    """Views of arrays of one shape, axes reordered and flipped alike so that ``first`` is walked as it lies."""
    if all(array.flags.c_contiguous for array in (first, *others)):
        return [array.reshape(-1) for array in (first, *others)]
    flips = tuple(slice(None, None, -1) if stride < 0 else slice(None) for stride in first.strides)
    order = sorted(range(first.ndim), key=lambda axis: -abs(first.strides[axis]))
    views = [array[flips].transpose(order) if array.ndim else array for array in (first, *others)]
    return [view.reshape(-1) for view in views] if all(view.flags.c_contiguous for view in views) else views


def _any_array(value: Any, name: str, writable: bool) -> Any:
    if getattr(value, "requires_grad", False) and hasattr(value, "detach"):
        value = value.detach()  # part of a gradient's graph, whose numbers libraries do not hand out
    if is_cuda(value):
        return value
    if isinstance(value, np.ndarray):
        if type(value) is not np.ndarray and np.ma.isMaskedArray(value):
            raise UnsupportedDtypeError(
                f"{name} is a masked array, whose mask would be lost: give .filled(...) of it, or .compressed()"
            )
        return np.asarray(value)
    if isinstance(value, (np.generic, float)):
        if writable:
            raise ReadOnlyArrayError(f"{name} is a {type(value).__name__}, which cannot be written: give an array")
        return np.asarray(value)
    failure: Exception = TypeError("it has neither __dlpack__ nor __array__")
    if hasattr(value, "__dlpack__"):
        try:
            return _from_dlpack(value)
        except _UNREADABLE as reason:
            failure = reason
    if hasattr(value, "__array__"):
        if writable:
            raise ReadOnlyArrayError(f"{name} is a {type(value).__name__}, which cannot be written here: change a copy")
        try:
            return np.asarray(value)
        except _UNREADABLE as reason:
            failure = reason
    raise UnsupportedDtypeError(f"{name} is a {type(value).__name__} that cannot be read: {failure}") from failure


class _AsUnsigned:
    """Passes on an array's DLPack capsule with the element type bfloat16, unknown to NumPy, replaced by uint16."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __dlpack_device__(self) -> Any:
        return self._source.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self._source.__dlpack__(**options)
        api = ctypes.pythonapi
        api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
        api.PyCapsule_GetPointer.restype = ctypes.c_void_p
        api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        label = api.PyCapsule_GetName(capsule)
        address = api.PyCapsule_GetPointer(capsule, label) + _DTYPE_CODE_OFFSET[label]
        ctypes.c_uint8.from_address(address).value = _DLPACK_UNSIGNED
        return capsule


def _from_dlpack(value: Any) -> Array:
    """A NumPy array over the memory of ``value``."""
    if str(getattr(value, "dtype", "")).endswith("bfloat16"):
        return np.from_dlpack(_AsUnsigned(value)).view(_bfloat16())
    return np.from_dlpack(value)


def _bfloat16() -> np.dtype[Any]:
    import ml_dtypes

    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype
