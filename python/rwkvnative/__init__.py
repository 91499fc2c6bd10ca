"""RWKV language models from GGUF files, natively quantized.

    from rwkvnative import Model
    model = Model()  # the small story model that comes with the package; Model("file.gguf") for another
    print(model.generate("Once upon a time", max_tokens=100))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batching import BatchStream as BatchStream
    from .batching import PromptOptions as PromptOptions
    from .chat import ChatSession as ChatSession
    from .chat import Message as Message
    from .errors import DeviceError as DeviceError
    from .errors import FileError as FileError
    from .errors import InputError as InputError
    from .errors import RwkvError as RwkvError
    from .generation import Generation as Generation
    from .generation import GenerationStream as GenerationStream
    from .generation import Timings as Timings
    from .model import Model as Model
    from .model import devices as devices
    from .quantize import quantize_file as quantize_file
    from .sampling import SamplingParams as SamplingParams
    from .state import LayerState as LayerState
    from .state import State as State

    __version__: str

# Loaded when first used, so that importing the package costs next to nothing.
_HOMES = {
    "BatchStream": "batching",
    "PromptOptions": "batching",
    "ChatSession": "chat",
    "Message": "chat",
    "DeviceError": "errors",
    "FileError": "errors",
    "InputError": "errors",
    "RwkvError": "errors",
    "Generation": "generation",
    "GenerationStream": "generation",
    "Timings": "generation",
    "Model": "model",
    "devices": "model",
    "quantize_file": "quantize",
    "SamplingParams": "sampling",
    "LayerState": "state",
    "State": "state",
}
__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("rwkvnative")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
