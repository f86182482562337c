"""Run a pickle on stand-ins, to see what it names and how much memory its tensors take."""

import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, ClassVar, NamedTuple

from danet_lightning.processes.internals import PythonUnpickler

MOST_READS = 1_000_000  # two for each instruction; a training of ResNet-152 with Adam has 200,000
SHARING = 4  # the bytes of all tensors over those of the file: some tensors share a storage

# Instructions of a pickle that allocate by a number alone, or that torch does not know either.
NEVER_SAVED = b"".join(
    [
        *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2),
        *(pickle.EXT4, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
    ]
)
# bytes in one number of a storage
STORAGES = {
    **dict.fromkeys(("torch.ByteStorage", "torch.CharStorage", "torch.BoolStorage"), 1),
    **dict.fromkeys(("torch.HalfStorage", "torch.BFloat16Storage", "torch.ShortStorage"), 2),
    **dict.fromkeys(("torch.FloatStorage", "torch.IntStorage"), 4),
    **dict.fromkeys(("torch.DoubleStorage", "torch.LongStorage", "torch.ComplexFloatStorage"), 8),
    "torch.ComplexDoubleStorage": 16,
}
PLAIN_TORCH = re.compile(r"torch\.(device|b?float\d+|u?int\d+|bool|complex\d+)")
# Training scripts keep their best score as a NumPy scalar, and MMSegmentation 1.x keeps its log:
# buffers of NumPy arrays and, looked up by getattr, their own methods. All of it is ignored.
IGNORED = (
    *("numpy.dtype", "numpy.ndarray", "builtins.getattr"),
    *("numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"),
    *("numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct"),
    "mmengine.logging.history_buffer.HistoryBuffer",
)


class RefusedFileError(ValueError):
    """The file is whole, but it wants what no weights file needs."""


class Ignored:
    """Stands for what a weights file holds beside its tensors."""

    def __new__(cls, *arguments: Any) -> "Ignored":
        """Accept any arguments and ignore them: the pickled object is never built."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore the state as well."""


class Storage(NamedTuple):
    """The numbers that tensors are made of: how many, and the bytes of each."""

    numbers: int
    item: int


class _Counted:
    """A file that is read in not too many pieces, none of them beyond its end."""

    def __init__(self, file: Any, size: int) -> None:
        self.file, self.size, self.pieces = file, size, 0

    def read(self, count: int) -> bytes:
        self.pieces += 1
        if self.pieces > MOST_READS:
            raise RefusedFileError("it holds more values than any training has")
        if count > self.size:
            raise EOFError
        content: bytes = self.file.read(count)
        return content

    def readline(self) -> bytes:
        line: bytes = self.file.readline(2**16)
        return line


class Inspector(PythonUnpickler):
    """Run a pickle on stand-ins; nothing that it names is imported or called.

    Attributes:
        storages: What its tensors are made of, by key.
    """

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(_Counted(file, size), encoding="latin1")
        self.stack: list[Any] = []
        self.storages: dict[str, Storage] = {}
        self.bytes, self.most_bytes = 0, SHARING * size + 2**20

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for what the pickle names."""
        named = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if named in STORAGES:
            return STORAGES[named]
        if named in IGNORED or PLAIN_TORCH.fullmatch(named):
            return Ignored
        known: dict[str, Callable[..., Any]] = {
            "collections.OrderedDict": self._mapping,
            "collections.Counter": self._collection,
            "builtins.set": self._collection,
            "torch.Size": self._collection,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "_codecs.encode": self._bytes,
        }
        if named in known:
            return known[named]
        if not re.fullmatch(r"\w+\.[\w.]+", named):
            raise pickle.UnpicklingError  # plain text
        if named.startswith(("torch._utils.", "torch._tensor.")):
            raise RefusedFileError(f"it holds another tensor than a dense one ({named})")
        raise RefusedFileError(
            f"unpickling it would run code ({named}), which a weights file has no need of. If you "
            "trust it, save its tensors alone: torch.save(net.state_dict(), path)"
        )

    def persistent_load(self, identity: Any) -> Storage:
        """Note a storage; its bytes lie elsewhere in the file."""
        kind, item, key, _, count, *view = identity
        if kind != "storage" or type(key) is not str or not _are_counts(item, count):
            raise pickle.UnpicklingError
        if self.storages.setdefault(key, Storage(count, item)) != Storage(count, item):
            raise RefusedFileError(f"its storage {key[:80]} has two sizes")
        if view and view[0] is not None:  # of the format of 2019
            _, offset, length = view[0]
            if not _are_counts(offset, length) or offset + length > count:
                raise RefusedFileError(f"a part of its storage {key[:80]} lies outside of it")
            return Storage(length, item)
        return Storage(count, item)

    def _tensor(
        self,
        storage: Storage,
        offset: int,
        size: Sequence[int],
        stride: Sequence[int],
        requires_grad: bool = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> Ignored:
        if not isinstance(storage, Storage) or not _are_counts(offset, *size, *stride):
            raise pickle.UnpicklingError
        if hooks or metadata is not None or len(size) != len(stride) or len(size) > 64:
            raise pickle.UnpicklingError
        sides = [max(side, 1) for side in size]  # an empty tensor can have a side of 10^9
        last = offset + sum((side - 1) * step for side, step in zip(sides, stride, strict=True))
        if max(prod(sides), last + 1) > max(storage.numbers, 1):
            raise RefusedFileError(
                f"a tensor of {str(list(size))[:80]} with strides {str(list(stride))[:80]} needs "
                f"more than the {storage.numbers} numbers that are stored for it"
            )
        self._take(prod(sides) * storage.item)
        return Ignored()

    def _collection(self, content: Any = ()) -> dict[Any, Any]:
        """Stand for a Counter, a set or a size."""
        if type(content) not in (str, list, tuple, dict):
            raise pickle.UnpicklingError
        _check_keys(content)
        self._take(100 * len(content))
        return {}

    def _mapping(self, content: Any = ()) -> dict[Any, Any]:
        """Stand for an OrderedDict, which old pickles make of a list of pairs."""
        is_of_pairs = type(content) is list and {*map(type, content)} <= {list, tuple}
        return self._collection([pair[0] for pair in content] if is_of_pairs else content)

    def _bytes(self, text: str, encoding: str) -> Ignored:
        """Stand for bytes, which pickles before protocol 3 write as text."""
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError
        self._take(len(text))
        return Ignored()

    def _take(self, count: int) -> None:
        self.bytes += count
        if self.bytes > self.most_bytes:
            raise RefusedFileError(
                "its tensors would take many times its size, as they share what is stored"
            )

    # ---- instructions that are not those of pickle

    def _build(self) -> None:
        """Ignore an object's state; only a dict's `_metadata`, as of state dicts, is allowed."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Ignored) and not (
            type(target) is dict and type(state) is dict and set(state) <= {"_metadata"}
        ):
            raise pickle.UnpicklingError

    def _set_items(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        _check_keys(items[::2])
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _check_keys([key])
        self.stack[-1][key] = value

    def _skip_frame(self) -> None:
        self.read(8)  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{code: do for code, do in PythonUnpickler.dispatch.items() if code not in NEVER_SAVED},
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.FRAME[0]: _skip_frame,
    }


def _are_counts(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _check_keys(keys: Iterable[Any]) -> None:
    """Allow keys whose hashes are quick: of nested tuples and of huge numbers they are not."""
    for key in keys:
        if not (key is None or type(key) in (str, bool) or (type(key) is int and abs(key) < 2**31)):
            raise pickle.UnpicklingError


def _parameter(data: Ignored, requires_grad: bool, hooks: Any) -> Ignored:
    if hooks or not isinstance(data, Ignored):
        raise pickle.UnpicklingError
    return data
