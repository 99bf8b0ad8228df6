"""ONNX's own node tests through ``from_onnx``: how many are right, refused, wrong.

    python -m tests.onnx_nodes            # all
    python -m tests.onnx_nodes resize     # those whose name holds a word

A case is tried with all of its inputs as inputs, then with integers or all but the first as
constants of the file, as networks have them. Random operators and dropout that is on at inference
have no numbers to compare.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from quatrain.compiler.errors import QuatrainError
from quatrain.tools.from_onnx import from_onnx
from quatrain.tools.from_onnx.definitions import tensor_of

RANDOM = ("bernoulli", "training_dropout")
Arrays = Sequence[np.ndarray]


def _array(value: object) -> np.ndarray:
    return np.asarray(numpy_helper.to_array(value) if isinstance(value, TensorProto) else value)


def _variants(model: ModelProto, inputs: Arrays) -> Iterator[tuple[ModelProto, list[np.ndarray]]]:
    """The model with none, the integers, or all but the first of its inputs as constants."""
    integers = [i > 0 and a.dtype.kind in "iu" for i, a in enumerate(inputs)]
    behind = [i > 0 for i, _ in enumerate(inputs)]
    for constant in ([False] * len(inputs), integers, behind):
        made, left = ModelProto(), []
        made.CopyFrom(model)
        made.ir_version = max(made.ir_version, 4)
        for i, (info, array) in enumerate(zip(model.graph.input, inputs, strict=False)):
            if constant[i]:
                made.graph.initializer.append(numpy_helper.from_array(array, info.name))
                made.graph.input.remove(next(v for v in made.graph.input if v.name == info.name))
            else:
                left.append(array)
        yield made, left


def _verdict(model: ModelProto, inputs: Arrays, wanted: Arrays) -> tuple[str, str]:
    """``right``, ``wrong`` or ``refused``, and what was said."""
    said = ""
    for made, left in _variants(model, inputs):
        try:
            network = from_onnx(made).eval()
            with torch.no_grad():
                found = network(*(tensor_of(a) for a in left))
        except (QuatrainError, TypeError) as error:  # TypeError: words are no tensor
            said = str(error)
            continue
        results = found if isinstance(found, tuple) else (found,)
        same = all(_same(t.numpy(), a) for t, a in zip(results, wanted, strict=True))
        return ("right" if same else "wrong"), ""
    return "refused", said


def _same(made: np.ndarray, wanted: np.ndarray) -> bool:
    half = wanted.dtype.kind not in "biu" and wanted.dtype.itemsize < 4
    bound = 1e-2 if half else 1e-3  # of numbers that ONNX computed in 16 bits
    if made.shape != wanted.shape:
        return False
    a, b = made.astype("f8"), wanted.astype("f8")
    return np.allclose(a, b, rtol=bound, atol=bound / 100, equal_nan=True)


def main(words: Sequence[str]) -> int:
    """Print the counts, and the names of what is wrong; status 1 if something is."""
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    for case in collect_testcases(None):
        if any(r in case.name for r in RANDOM) or not all(w in case.name for w in words):
            continue
        assert case.model is not None and case.data_sets is not None, case.name
        for inputs, outputs in case.data_sets:
            try:
                arrays = [_array(a) for a in inputs], [_array(a) for a in outputs]
            except ValueError:  # sequences of unlike tensors
                counts["refused"] += 1
                continue
            verdict, said = _verdict(case.model, *arrays)
            counts[verdict] += 1
            if verdict == "wrong" or words:
                print(verdict, case.name, said)
    print(", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())))
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
