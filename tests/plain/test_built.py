"""What a built step stands on, without one: its imports, and arrays as safetensors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from quatrain.runtime.built.tensors import read, write

TOP = Path(__file__).parents[2]
ARRAYS: dict[str, np.ndarray] = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.asarray(7, np.int64),
    "codes": np.arange(5, dtype=np.uint8),
    "half": np.arange(3, dtype=np.uint16),
    "none": np.zeros((0, 4), np.float32),
}


def test_numpy_is_all_that_its_import_needs() -> None:
    blocked = ("torch", "tvm", "tvm_ffi", "safetensors", "networkx", "ml_dtypes", "typer", "rich")
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "import quatrain.runtime.built, quatrain.targets.cuda.built, quatrain.targets.cpu.built"
    )
    subprocess.run([sys.executable, "-c", code], cwd=TOP, check=True)


def test_arrays_are_read_by_the_package_and_its_own_by_us() -> None:
    data = write(ARRAYS, {"hyper": "{}"})
    for found in (load(data), read(data)[0], read(save(ARRAYS))[0]):
        assert found.keys() == ARRAYS.keys()
        assert all(np.array_equal(found[k], v) for k, v in ARRAYS.items())
        assert all(
            found[k].dtype == v.dtype and found[k].shape == v.shape for k, v in ARRAYS.items()
        )
    assert read(data)[1] == {"hyper": "{}"} and read(save(ARRAYS))[1] == {}


@pytest.mark.parametrize("cut", [0, 7, 8, 40, -1])
def test_what_is_cut_short_is_refused(cut: int) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        read(write(ARRAYS, {})[:cut])
