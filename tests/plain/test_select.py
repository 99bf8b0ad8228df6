"""Which layers are first, last and shortcuts, on graphs that invite a wrong answer."""

import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.passes.parts.select import (
    first,
    kernel_sizes,
    last,
    layers,
    quantized,
    selected,
    shortcut,
)
from quatrain.passes.recipe import load_recipe
from tests.cases.residual import resnet

GEOMETRY = {1: "padding=[0,0]", 3: "padding=[1,1]"}


def network(*lines: str, inputs: int = 1, outputs: str = "") -> Program:
    """A forward of 4-channel images; ``name = conv3(x)`` is a convolution in the layer ``name``."""
    text = ["program net", *(f"input x{i or ''} : f32[1x4x6x6]" for i in range(inputs))]
    body: list[str] = []
    for line in lines:
        name, _, call = line.partition(" = ")
        if call.startswith("conv"):
            k = int(call[4])
            text.append(f"state {name}.w : f32[4x4x{k}x{k}]")
            call = f"conv2d({call[6:-1]}, {name}.w)"
            call += f" {{stride=[1,1], {GEOMETRY[k]}, dilation=[1,1], groups=1}}"
        body += [f"# {name}", f"{name} = {call} : f32[1x4x6x6]"]
    last_name = lines[-1].partition(" = ")[0]
    text += ["forward:", *body, f"return {outputs or last_name}"]
    return verify(parse("\n".join(text)))


def test_a_residual_network_in_training_and_evaluation() -> None:
    for program in (resnet(blocks=2), resnet(blocks=2, training=False)):
        assert first(program) == {"conv1"}
        assert last(program) == {"fc"}
        assert shortcut(program) == {"layer2.0.downsample.0"}
        assert len(layers(program)) == 11


def test_the_answer_is_the_same_after_every_pass() -> None:
    program = resnet()
    want = [f(program) for f in (first, last, shortcut)]
    for _, after in load_recipe("ultra_low_4bit").apply(program):
        assert [f(after) for f in (first, last, shortcut)] == want


def test_preprocessing_does_not_hide_the_first_layer() -> None:
    program = network(
        "p = scale(x) {factor=0.5}", "q = relu(p)", "a = conv3(q)", "b = conv3(a)", "c = conv3(b)"
    )
    assert first(program) == {"a"} and last(program) == {"c"}


def test_each_input_has_its_first_layer() -> None:
    program = network("a = conv3(x)", "b = conv3(x1)", "s = add(a, b)", "c = conv3(s)", inputs=2)
    assert first(program) == {"a", "b"} and last(program) == {"c"}
    assert shortcut(program) == set(), "branches of equal depth have no shortcut"


def test_an_input_that_comes_back_late_makes_no_first_layer() -> None:
    program = network("a = conv3(x)", "s = add(a, x)", "b = conv3(s)")
    assert first(program) == {"a"}


def test_both_ends_of_a_network_that_ends_in_a_sum_are_last() -> None:
    program = network("a = conv3(x)", "b = conv3(a)", "c = conv1(a)", "s = add(b, c)")
    assert last(program) == {"b", "c"}


def test_identity_shortcuts_hold_no_layer() -> None:
    lines = ["a = conv3(x)", "b = conv3(a)", "c = conv3(b)", "s = add(c, a)", "d = conv3(s)"]
    assert shortcut(network(*lines)) == set()


def test_a_shortcut_is_found_on_either_side_and_through_other_ops() -> None:
    for sides in ("n, r", "r, n"):
        program = network(
            "a = conv3(x)",
            "b = conv3(a)",
            "c = conv3(b)",
            "r = relu(c)",
            "p = conv1(a)",
            "n = scale(p) {factor=2.0}",
            f"s = add({sides})",
            "d = conv3(s)",
        )
        assert shortcut(program) == {"p"}


def test_the_shortcut_of_an_outer_block_is_not_confused_by_an_inner_one() -> None:
    program = network(
        "a = conv3(x)",
        "b = conv3(a)",
        "c = conv3(b)",
        "s = add(c, b)",
        "p = conv1(a)",
        "t = add(s, p)",
        "d = conv3(t)",
    )
    assert shortcut(program) == {"p"}


def test_a_wide_shortcut_branch_counts_all_its_convolutions() -> None:
    program = network(
        "a = conv3(x)",
        "b = conv3(a)",
        "c = conv3(b)",
        "d = conv3(c)",
        "p = conv1(a)",
        "q = conv1(p)",
        "s = add(d, q)",
        "e = conv3(s)",
    )
    assert shortcut(program) == {"p", "q"}


CHAIN = ("a = conv3(x)", "b.one = conv1(a)", "b.two = conv3(b.one)", "c = conv3(b.two)")


@pytest.mark.parametrize(
    ("terms", "want"),
    [
        ("none", ""),
        ("", ""),
        ("first", "a"),
        (" first , last ", "a c"),
        ("1x1", "b.one"),
        ("3x3", "a b.two c"),
        ("b.*", "b.one b.two"),
        ("first,b.two", "a b.two"),
        ("3x3,!b.two", "a c"),
        ("!a,first,last", "c"),
        ("5x5", ""),
    ],
)
def test_terms(terms: str, want: str) -> None:
    program = network(*CHAIN)
    assert selected(program, terms) == set(want.split())
    assert quantized(program, terms) == set(layers(program)) - set(want.split())


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ("frist", "no layer with a GEMM is called 'frist'; did you mean 'first'?"),
        ("layer9.*", "no layer with a GEMM is called 'layer9.*'"),
        (
            "!layer1.0.conv9",
            "no layer with a GEMM is called 'layer1.0.conv9'; did you mean 'layer1",
        ),
        ("5x5", "no convolution has a 5x5 kernel; sizes of this program: 1x1, 3x3"),
        ("first,03x3,7x7", "no convolution has a 7x7 kernel"),
        ("none,first", "'none' in 'none,first' contradicts the other terms"),
    ],
)
def test_terms_that_choose_nothing_are_refused(terms: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        selected(resnet(), terms)
    assert message in str(caught.value)


def test_pointwise_layers_may_be_missing() -> None:
    program = resnet(widths=(3,))
    assert "1x1" not in {"x".join(map(str, s)) for s in kernel_sizes(program).values()}
    assert selected(program, "1x1") == set()


def test_an_evaluation_program_may_lack_a_named_layer() -> None:
    assert selected(resnet(training=False), "auxiliary.*") == set()
