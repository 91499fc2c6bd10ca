"""The compiled extension. Private: the package's own modules are the interface."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

class DTypeInfo(TypedDict):
    name: str
    ggml_type: int
    block_values: int
    block_bytes: int

class DeviceInfo(TypedDict):
    device: str
    name: str
    kind: str
    backend: str
    memory_bytes: int
    features: list[str]

class EngineInfo(TypedDict):
    device: str
    device_name: str
    backend: str
    driver: str
    kind: str
    features: list[str]
    n_threads: int
    architecture: str
    n_layer: int
    n_embd: int
    n_head: int
    head_size: int
    n_vocab: int
    context_length: int
    weight_bytes: int
    device_bytes: int
    max_device_memory: int
    device_bytes_used: int
    device_bytes_peak: int
    layers: int
    resident_layers: int
    streamed_bytes: int
    host_bytes: int
    state_bytes: int
    prefill_rows: int
    max_batch: int
    scratch_bytes: int
    programs: int

class Ceilings(TypedDict):
    """What a device can do at best; 0 where it cannot or was not asked."""

    read_bytes_per_second: float
    dispatch_seconds: float
    int8_per_second: float
    f16_per_second: float
    f32_per_second: float
    matrix_per_second: float
    upload_bytes_per_second: float

class OpTime(TypedDict):
    """label: kind of the op, then its outputs. layer: -1 outside of the layers. bytes: that must move at least once."""

    label: str
    layer: int
    microseconds: float
    bytes: int
    operations: int
    arithmetic: Literal["f32", "f16", "int8"]

class UploadTime(TypedDict):
    """Weights that do not stay on the device, on their way to it, timed alone. first_op: the index of the op that waits for them."""

    label: str
    bytes: int
    microseconds: float
    first_op: int

class StepProfile(TypedDict):
    """A step of `rows` tokens. step_seconds: wall clock from step to step, tickets in flight; submit_seconds: the host's work in
    it; alone_seconds: submitted and waited for; upload_microseconds: of all uploads one behind the other, without waits between
    them, 0 where that is not timed. timestamps: the ops' times are the device's own, else wall clock."""

    rows: int
    sequences: int
    timestamps: bool
    step_seconds: float
    submit_seconds: float
    alone_seconds: float
    ops: list[OpTime]
    uploads: list[UploadTime]
    upload_microseconds: float

def dtypes() -> list[DTypeInfo]: ...
def devices() -> list[DeviceInfo]: ...
def architectures() -> list[str]: ...
def cpu_kernels() -> list[str]:
    """The kernel sets that this processor runs, fastest first; device "cpu:NAME" picks one."""
def quantize(
    values: npt.NDArray[np.float32],
    ggml_type: int,
    importance: npt.NDArray[np.float32] | None = None,
    n_threads: int = 0,
    first_row: int = 0,
) -> bytes:
    """float32 [rows, n] to blocks, row after row. importance: float32 [n], weights of the squared error per column."""

def dequantize(blocks: Buffer | npt.NDArray[Any], ggml_type: int, n_values: int) -> npt.NDArray[np.float32]: ...
def unescape_world_tokens(tokens: list[str]) -> list[bytes]: ...

class WorldTrie:
    def __init__(self, tokens: list[bytes], ids: npt.NDArray[np.int32] | Sequence[int]) -> None: ...
    def encode(self, data: bytes) -> npt.NDArray[np.int32]: ...
    @property
    def n_nodes(self) -> int: ...

class State:
    @property
    def nbytes(self) -> int: ...
    def copy(self) -> State: ...
    def read(self) -> dict[str, npt.NDArray[np.float32]]:
        """att_shift [L, C], ffn_shift [L, C], wkv [L, H, N (value), N (key)]."""
    def write(self, parts: dict[str, npt.NDArray[np.float32]]) -> None: ...

class Draw:
    """How the device draws a token: see rwkvnative.sampling. bans: a bias bans tokens."""

    def __init__(
        self,
        *,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        temperature: float = 1.0,
        bans: bool = False,
        presence: float = 0.0,
        frequency: float = 0.0,
        decay: float = 1.0,
        repeat: float = 1.0,
        repeat_last_n: int = 0,
    ) -> None: ...
    def set_used(
        self,
        ids: npt.NDArray[np.int32],
        counts: npt.NDArray[np.float32],
        places: npt.NDArray[np.int32],
        generated: npt.NDArray[np.bool_],
        place: int,
    ) -> None:
        """The tokens that penalties are for: distinct ids, decayed counts among the generated ones, places of the last use from
        1 on (0: long ago), whether they were generated; and the place of the token that is drawn next."""

    @property
    def has_penalties(self) -> bool: ...

class ModelFile:
    """Watches a mapped file while it lives: reading what the file has lost finds zeros instead of ending the process."""

    def __init__(self, path: bytes, mapped: Buffer) -> None:
        """FileError if the file cannot be opened, or has another size than what is mapped."""

    def check(self) -> None:
        """FileError if the file was written to or truncated since, or a page of it could not be read."""

class Engine:
    def __init__(
        self,
        arch: str,
        config: dict[str, int | float],
        tensors: list[tuple[str, int, tuple[int, ...], int, int]],
        data: Buffer | npt.NDArray[Any],
        device: str = "auto",
        n_threads: int = 0,
        numerics: str = "auto",
        progress: Callable[[int, int], object] | None = None,
        source: str = "",
        max_device_memory: int = 0,
        file: str | bytes = "",
    ) -> None:
        """tensors: (name, ggml type, shape with ne0 first, offset in data, bytes). n_threads 0: one per core.

        source: the file's name, for messages about its tensors.
        """

    @property
    def info(self) -> EngineInfo: ...
    def ceilings(self) -> Ceilings: ...
    def set_tuning(self, text: str) -> None: ...
    def tuning_variants(self) -> list[str]: ...
    def prefill_choices(self) -> list[int]: ...
    def check_file(self) -> None:
        """FileError if the model's file has changed since it was opened."""

    @property
    def kernels_id(self) -> str: ...
    def profile(self, rows: int, sequences: int = 1, repeats: int = 5, warm_seconds: float = 0.5) -> StepProfile:
        """rows == sequences: greedy decoding; else a chunk of a prompt with its last logits."""

    def new_state(self) -> State: ...
    @overload
    def forward(
        self,
        tokens: npt.NDArray[np.int32],
        state_in: State | None,
        state_out: State,
        rows: Literal["last", "all"] = "last",
        progress: Callable[[int, int], object] | None = None,
    ) -> npt.NDArray[np.float32]: ...
    @overload
    def forward(
        self,
        tokens: npt.NDArray[np.int32],
        state_in: State | None,
        state_out: State,
        rows: Literal["none"],
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    @overload
    def forward_batch(
        self,
        tokens: Sequence[npt.NDArray[np.int32]],
        states_in: Sequence[State | None],
        states_out: Sequence[State],
        rows: Literal["last"] = "last",
        progress: Callable[[int, int], object] | None = None,
    ) -> npt.NDArray[np.float32]:
        """float32 [B, V]: the logits after the last token of each of B sequences. A state that one sequence writes is of no
        other; several may read one state."""
    @overload
    def forward_batch(
        self,
        tokens: Sequence[npt.NDArray[np.int32]],
        states_in: Sequence[State | None],
        states_out: Sequence[State],
        rows: Literal["none"],
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    def hidden(self, tokens: npt.NDArray[np.int32], state_in: State | None, state_out: State) -> npt.NDArray[np.float32]:
        """float32 [C]: the last position after the output norm."""

    def candidates(
        self,
        tokens: npt.NDArray[np.int32],
        state_in: State | None,
        state_out: State,
        k: int,
        bias_ids: npt.NDArray[np.int32],
        bias_values: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], float]:
        """ids int32 [k], logits float32 [k] with the bias added, by falling logit then rising id; logsumexp over all V."""

    def candidates_batch(
        self,
        tokens: Sequence[npt.NDArray[np.int32]],
        states_in: Sequence[State | None],
        states_out: Sequence[State],
        k: int,
        biases: Sequence[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None],
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """`candidates` of B sequences: ids int32 [B, k], logits float32 [B, k], logsumexp float32 [B]."""

    def rounded_up(self, sequences: int) -> int:
        """Of so many sequences, at most info["max_batch"], the number that a step is compiled for."""

    def can_draw(self, sequences: int, penalties: bool) -> bool:
        """Whether the device draws tokens of so many sequences at once, some of them with penalties or none."""

    def draw(
        self,
        token: int,
        state: State,
        us: npt.NDArray[np.float64],
        draw: Draw,
        bias: tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None,
        stop_ids: npt.NDArray[np.int32],
        callback: Callable[[int], bool] | None = None,
    ) -> list[int]:
        """As `greedy`, each token drawn with the next of us, 0 <= u < 1. Fewer tokens without an end: there is none to draw (the
        logits are not finite, or all are banned), and the state has not read the last one."""

    def draw_batch(
        self,
        tokens: Sequence[npt.NDArray[np.int32]],
        states_in: Sequence[State | None],
        states_out: Sequence[State],
        draws: Sequence[Draw | None],
        us: npt.NDArray[np.float64],
        biases: Sequence[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None],
    ) -> npt.NDArray[np.int32]:
        """int32 [B]: a token drawn after the last one of each of B sequences, with us [B]; -1: there is none. A draw of None: no
        matter what."""

    def draw_on(
        self,
        tokens: Sequence[npt.NDArray[np.int32]],
        states: Sequence[State],
        draws: Sequence[Draw],
        us: npt.NDArray[np.float64],
        biases: Sequence[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None],
        callback: Callable[[list[int]], bool] | None = None,
    ) -> npt.NDArray[np.int32]:
        """int32 [n or fewer, B]: as `greedy_batch`, drawn with us [n, B]. Past a -1 a sequence's tokens and state mean nothing."""

    def greedy_batch(
        self,
        tokens: npt.NDArray[np.int32],
        states: Sequence[State],
        n: int,
        callback: Callable[[list[int]], bool] | None = None,
    ) -> npt.NDArray[np.int32]:
        """int32 [n or fewer, B]: n times the argmax of each of B sequences after the token before, first after `tokens` [B]; -1 where
        the logits are not finite, and past that anything.
        callback(B tokens) is called for each step while the device is at those that follow; when it is false the steps that were
        begun are the last. Each state has then read its token and all of the returned ones but the last."""

    def greedy(
        self,
        token: int,
        state: State,
        n: int,
        stop_ids: npt.NDArray[np.int32],
        callback: Callable[[int], bool] | None = None,
    ) -> list[int]:
        """Up to n tokens, each the argmax after the one before. Ends after one of stop_ids, when callback(token) is false, or where
        there is no next one: the logits are not finite.
        The state has then read `token` and all of the returned ones but the last; where there is no next one perhaps that too."""

class OpRunner:
    """Some neighbouring ops of a model's plan on a device, for tests of single ops. rows: tokens that each sequence brings."""

    def __init__(
        self,
        arch: str,
        config: dict[str, int | float],
        tensors: list[tuple[str, int, tuple[int, ...], int, int]],
        data: Buffer | npt.NDArray[Any],
        device: str,
        int8: bool,
        first_op: int,
        n_ops: int,
        rows: list[int],
    ) -> None: ...
    @property
    def kinds(self) -> list[str]:
        """The kind of each op of the whole plan."""
    @property
    def slots(self) -> dict[str, int]:
        """Width of each slot."""
    def run(
        self, tokens: npt.NDArray[np.int32], slots: dict[str, npt.NDArray[np.float32]], states: npt.NDArray[np.float32]
    ) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
        """Slots [rows, width] and states [sequences, values] before; both after, and "logits" if the head is among the ops."""
