"""Codes in ONNX: formats, products of codes, the two dialects, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from quatrain.compiler.errors import ExportError
from quatrain.compiler.formats import FORMATS
from quatrain.targets.onnx.elements import code_range, element_of, element_range
from quatrain.targets.onnx.program import check_writable, write_graph
from quatrain.targets.onnx.write import encoded

from ..cases.onnx_case import agree, reference, run, text, written

# -- quantizers: every format whose codes ONNX has room for


CODED = [f for f in FORMATS.values() if f.is_coded and f.is_integer and f.bits <= 16]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", [f.name for f in CODED])
def test_codes_of_a_format(name: str, exact: bool) -> None:
    """Also where a Relu or a clip stands ahead, which onnxruntime merges into what rounds."""
    f = FORMATS[name]
    program = text(
        "input x : f32[7x13]\nstate clip : f32[] = 1.37",
        "r = relu(x) : f32[7x13]",
        f"a = quantize(r, clip) : {name}*t[7x13]",
        "b = dequantize(a) : f32[7x13]",
        f"c = quantize(x, clip) : {name}*t[7x13]",
        "d = dequantize(c) : f32[7x13]",
        "y = sub(d, b) : f32[7x13]",
    )
    x = np.linspace(-2, 2, 7 * 13, dtype=np.float32).reshape(7, 13)
    agree(program, {"x": x}, exact=exact, close=not exact)
    element = element_of(f)
    assert element is not None
    low, high = element_range(element)
    assert low <= code_range(f)[0] and code_range(f)[1] <= high


@pytest.mark.parametrize("name", ["fp8.143", "fp8.152"])
def test_numbers_of_8_bits(name: str) -> None:
    program = text(
        "input x : f32[256]",
        "r = relu(x) : f32[256]",
        f"a = cast(r) : {name}*p[256]",
        f"b = cast(x) : {name}*p[256]",
        "c = dequantize(a) : f32[256]",
        "d = dequantize(b) : f32[256]",
        "y = sub(d, c) : f32[256]",
    )
    x = np.random.default_rng(2).standard_normal(256) * 2.0 ** np.arange(-20, 12).repeat(8)
    agree(program, {"x": x.astype(np.float32)}, exact=False, close=False)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    "name", ["uint4", "int4", "uint8", "int8", "int16", "int4.midrise", "fp8.143"]
)
def test_codes_between_ops_that_move_numbers(name: str, exact: bool) -> None:
    """onnxruntime moves pairs of quantizers over such ops, also where no op takes the codes."""
    made = f"cast(p) : {name}*p" if name.startswith("fp8") else f"quantize(p, clip) : {name}*t"
    scale = made[-1]
    program = text(
        "input x : f32[2x4x6x6]\nstate clip : f32[] = 1.37\nstate w : f32[5x36]",
        "p, where = max_pool2d(x) {kernel=[2,2], stride=[2,2], padding=[0,0], dilation=[1,1]}"
        " : f32[2x4x3x3], uint8[2x4x3x3]",
        f"q = {made}[2x4x3x3]",
        f"v = view(q) : {name}*{scale}[2x36]",
        "c = quantize(w, clip) : int4*t[5x36]",
        "y = linear(v, c) : f32[2x5]",
    )
    generator = np.random.default_rng(7)
    w, x = (generator.standard_normal(n).astype(np.float32) for n in ((5, 36), (2, 4, 6, 6)))
    (wanted,) = reference(program, {"w": w}, {"x": x})
    for (found,) in run(written(program, {"w": w}, exact=exact), {"x": x}):
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)
        assert not exact or name.startswith(("fp8", "int16")) or (found == wanted).all()


@pytest.mark.parametrize("carrier", ["bf16", "f16"])
def test_carriers_are_rounded_where_the_program_rounds(carrier: str) -> None:
    program = text(
        "input x : f32[7x13]",
        f"a = scale(x) {{factor=0.3}} : {carrier}[7x13]",
        f"b = relu(a) : {carrier}[7x13]",
        f"y = mul(b, a) : {carrier}[7x13]",
    )
    x = np.random.default_rng(3).standard_normal((7, 13)).astype(np.float32)
    agree(program, {"x": x}, exact=False, close=False)
    nodes = [n.op for n in write_graph(program, {}).graph.nodes]
    assert nodes.count("Cast") == 4, "what only moves or chooses numbers needs no rounding"


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("places", ["", "c"])
def test_affine_codes_have_an_offset_that_is_no_integer(bits: int, places: str) -> None:
    limit = "[7]" if places else "[]"
    program = text(
        f"input x : f32[7x13]\nstate low : f32{limit} = -0.73\nstate high : f32{limit} = 1.19",
        f"bits = constant() {{value={bits}.0}} : f32[]",
        f"q = quantize_affine(x, low, high, bits) : uint8*a{places}[7x13]",
        "y = dequantize(q) : f32[7x13]",
    )
    x = np.random.default_rng(4).standard_normal((7, 13)).astype(np.float32)
    agree(program, {"x": x}, exact=False, close=False)


# -- products of codes


WEIGHTS = {
    "int4*t": "q = quantize(w, clip) : int4*t",
    "int4*c": "q = quantize(w, clips) : int4*c",
    "int8*t": "q = quantize(w, clip) : int8*t",
    "int8*c": "q = quantize(w, clips) : int8*c",
    "int4.midrise*t": "q = quantize(w, clip) : int4.midrise*t",
    "uint8*a": "d = quantize_affine(w, low, high, bits) : uint8*a",
}
PRODUCTS = {
    "linear": ("7x13", "5x13", "linear(p, q) : f32[7x5]"),
    "conv2d": (
        "2x4x5x6",
        "5x2x3x3",
        "conv2d(p, q) {stride=[2,1], padding=[1,2], dilation=[1,2], groups=2} : f32[2x6x3x6]",
    ),
    "conv2d_transpose": (
        "2x5x3x4",
        "5x2x3x2",
        "conv2d_transpose(p, q) {stride=[2,3], padding=[1,0], dilation=[1,1], groups=1}"
        " : f32[2x2x6x12]",
    ),
}
PRODUCTS["conv2d"] = (PRODUCTS["conv2d"][0], "6x2x3x3", PRODUCTS["conv2d"][2])


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("kind", PRODUCTS)
def test_products_of_codes(kind: str, weight: str, exact: bool) -> None:
    """With ``exact`` sums of integers are the reference's to the bit."""
    data, shape, line = PRODUCTS[kind]
    rows = shape.partition("x")[0]
    affine = weight == "uint8*a"
    made = f"{WEIGHTS[weight]}[{shape}]"
    program = text(
        f"input x : f32[{data}]\nstate w : f32[{shape}]\nstate clip : f32[] = 0.9\n"
        f"state clips : f32[{rows}]\nstate low : f32[] = -0.9\nstate high : f32[] = 1.1",
        "bits = constant() {value=8.0} : f32[]",
        f"p = quantize(x, clip) : uint{'4' if weight.startswith('int4') else '8'}*t[{data}]",
        *([made, f"q = dequantize(d) : f32[{shape}]"] if affine else [made]),
        f"y = {line}",
    )
    generator = np.random.default_rng(5)
    state = {v.name: np.asarray(generator.random(v.type.shape), np.float32) + np.float32(0.2)
             for v in program.state if v.name in ("w", "clips")}  # fmt: skip
    state["w"] *= np.where(generator.random(state["w"].shape) < 0.3, -1, 1).astype(np.float32)
    x = program.inputs[0]
    feed = {"x": np.asarray(generator.standard_normal(x.type.shape) + 1, np.float32)}
    wanted = reference(program, state, feed)
    summed = weight.endswith("*c") and kind == "conv2d_transpose"
    for made_ in run(written(program, state, exact=exact), feed):
        if not exact or affine or summed:
            np.testing.assert_allclose(made_[0], wanted[0], rtol=2e-6, atol=2e-5)
        else:
            np.testing.assert_array_equal(made_[0], wanted[0])


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("name", "other"), [("int4", "uint4"), ("uint8", "int8"), ("int8", "int8")]
)
def test_products_of_two_activations(name: str, other: str, exact: bool) -> None:
    program = text(
        "input x : f32[2x5x13]\ninput z : f32[2x13x3]\nstate clip : f32[] = 0.9",
        f"a = quantize(x, clip) : {name}*t[2x5x13]",
        f"b = quantize(z, clip) : {other}*t[2x13x3]",
        "y = product(a, b) : f32[2x5x3]",
    )
    generator = np.random.default_rng(8)
    feed = {v.name: (generator.standard_normal(v.type.shape) + 1).astype(np.float32)
            for v in program.inputs}  # fmt: skip
    agree(program, feed, exact=exact, close=not exact)


# -- what is refused


REFUSED = {
    "no type": ("y = cast(x) : fp8.143.ibm*p[2x3]", "layer 'body', op cast .* fp8.143.ibm, which ONNX"),
    "no op": ("y = turn(n) {of=2, at=1} : f32[]", "op turn .* has no counterpart in ONNX"),
    "sums": (
        "a = cast(x) : fp8.152*p[2x3]\n  b = cast(w) : fp8.152*p[4x3]\n"
        "  y = linear(a, b) {accumulator=fp16.169, chunk=64} : f32[2x4]",
        "adds in fp16.169 in chunks of 64, which ONNX cannot say; compile with accumulator=f32",
    ),
    "draws": ("m = random_mask(n, n) {keep=0.5, salt=1} : f32[2x3]\n  y = mul(x, m) : f32[2x3]",
              "op random_mask .* draws random numbers"),
    "windows": (
        "y, p = max_pool2d(i) {kernel=[1,1], stride=[1,1], padding=[1,1], dilation=[1,1]}"
        " : f32[1x1x4x4], uint8[1x1x4x4]\n  z = abs(y) : f32[1x1x4x4]",
        "op max_pool2d .* has windows outside of the data, which ONNX has not; use less padding",
    ),
    "places": (
        "a, b = max_pool2d(i) {kernel=[2,2], stride=[2,2], padding=[0,0], dilation=[1,1]}"
        " : f32[1x1x1x1], uint8[1x1x1x1]\n  y = max_pool2d_grad(a, b) {kernel=[2,2], stride=[2,2],"
        " padding=[0,0], dilation=[1,1]} : f32[1x1x2x2]",
        "op max_pool2d_grad .* has no counterpart",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_ahead_of_any_numbers(name: str) -> None:
    lines, words = REFUSED[name]
    inputs = "input x : f32[2x3]\ninput w : f32[4x3]\ninput n : i64[]\ninput i : f32[1x1x2x2]"
    program = text(inputs, "# body", lines)
    with pytest.raises(ExportError, match=words) as error:
        check_writable(program)
    assert "\n" not in str(error.value)


def test_a_clip_must_be_positive() -> None:
    program = text(
        "input x : f32[2x3]\nstate clip : f32[] = 0.0",
        "q = quantize(x, clip) : uint4*t[2x3]",
        "y = dequantize(q) : f32[2x3]",
    )
    with pytest.raises(ExportError, match="has a clip of 0 to 0; a clip is a number above 0"):
        write_graph(program, {})


def test_numbers_that_no_state_has() -> None:
    program = text("input x : f32[2x3]\nstate b : f32[3]", "y = add_bias(x, b) : f32[2x3]")
    with pytest.raises(ExportError, match="the state lacks b"):
        write_graph(program, {})


# -- QONNX


def test_qonnx_says_formats_that_onnx_has_no_type_for() -> None:
    onnx = pytest.importorskip("onnx")
    program = text(
        "input x : f32[2x3]\nstate w : f32[5x3]\nstate clip : f32[] = 1.5",
        "a = quantize(x, clip) : int3*t[2x3]",
        "b = dequantize(a) : f32[2x3]",
        "c = cast(b) : fp8.143.b11.sub*p[2x3]",
        "q = quantize(w, clip) : int4*t[5x3]",
        "d = dequantize(c) : f32[2x3]",
        "y = linear(d, q) : f32[2x5]",
    )
    state = {"w": np.ones((5, 3), np.float32)}
    model = onnx.load_from_string(encoded(write_graph(program, state, dialect="qonnx").graph))
    found = {n.op_type: n for n in model.graph.node if n.domain == "qonnx.custom_op.general"}
    assert set(found) == {"IntQuant", "FloatQuant"}
    how = {a.name: onnx.helper.get_attribute_value(a) for a in found["IntQuant"].attribute}
    assert how == {"signed": 1, "narrow": 1, "rounding_mode": b"ROUND"}
    with pytest.raises(ExportError, match=r"numbers of fp4\.even, which QONNX has no op"):
        check_writable(
            text("input x : f32[3]", "g = cast(x) : fp4.even*p[3]", "y = dequantize(g) : f32[3]"),
            dialect="qonnx",
        )
