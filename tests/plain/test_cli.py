"""The command line without torch: help, opt, inspect, report, recipes, targets, and its errors."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import ParseError, UsageError, VerifyError
from quatrain.compiler.ir.text import parse, show
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.bundle import Bundle, write
from quatrain.tools import env
from quatrain.tools.cli import ORDER, one_line
from quatrain.tools.commands.opt import parse_pass

from ..cases.bill_programs import CAPTURED, QUANTIZED
from ..cases.commands import Quatrain

TOP = Path(__file__).parents[2]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A ``.qtn`` whose only pass is canonicalize, made without torch."""
    program = parse(CAPTURED)
    path = tmp_path / "net.qtn"
    state = {v.name: np.zeros(v.type.shape, np.float32) for v in program.state}
    kept = {"layer": "conv", "function": "conv2d", "shape": [3, 13, 7, 7], "bytes": 7644}
    manifest = {"target": "reference", "allow": ["fc"], "seed": 0, "torch_saved": [kept]}
    write(Bundle(program, program, load_recipe("fp32"), manifest, state), path)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.qt"
    path.write_text(QUANTIZED)
    return path


def child(*words: object, forbid: tuple[str, ...] = (), text: str = "") -> tuple[int, str, str]:
    """Run a command in a process in which some packages cannot be imported."""
    return python(f"sys.exit(main({[str(word) for word in words]!r}))\n", forbid, text)


def python(code: str, forbid: tuple[str, ...], text: str = "") -> tuple[int, str, str]:
    """Run lines that call ``main`` in such a process."""
    head = (
        "import sys\n"
        "class Never:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {forbid!r}:\n"
        "            raise ModuleNotFoundError(f'{name} is forbidden', name=name)\n"
        "sys.meta_path.insert(0, Never())\n"
        "from quatrain.tools.cli import main\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        cwd=TOP, input=text, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_help_lists_the_commands(quatrain: Quatrain) -> None:
    for text in (quatrain(), quatrain("--help"), quatrain("-h")):
        assert all(name in text for name in ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_every_command_has_help(quatrain: Quatrain, name: str) -> None:
    assert f"quatrain {name}" in quatrain(name, "--help")


def test_options_name_their_variables(quatrain: Quatrain) -> None:
    text = "".join(quatrain(name, "-h") for name in ORDER)
    for variable in (env.THREADS, env.TARGET, env.DUMP, env.DATA, env.CACHE):
        assert variable in text


def test_version(quatrain: Quatrain) -> None:
    assert quatrain("--version").split()[0] == "quatrain"


def test_opt_prints_one_form(quatrain: Quatrain, program: Path) -> None:
    assert quatrain("opt", program) == show(parse(QUANTIZED))


def test_opt_runs_passes_in_order(quatrain: Quatrain, tmp_path: Path) -> None:
    path, output = tmp_path / "p.qt", tmp_path / "out.qt"
    path.write_text(CAPTURED)
    words = ("--pass", "sawb_weights:bits=2,exempt=fc", "--pass", "canonicalize", "-o", output)
    assert quatrain("opt", path, *words) == ""
    made = parse(output.read_text())
    assert [v.type.short for _, op in made.ops() for v in op.results if op.kind == "quantize"] == [
        "int2*t"
    ]
    assert {p.name for p in tmp_path.iterdir()} == {"p.qt", "out.qt"}  # no temporary file stays


def test_a_value_of_a_pass_option_may_hold_commas() -> None:
    step = parse_pass("sawb_weights:exempt=first,last,shortcut,bits=2")
    assert step.name == "sawb_weights"
    given = {"exempt": "first,last,shortcut", "bits": 2}
    assert given.items() <= step.settings.items()


def test_a_plan_for_a_gpu_says_what_its_peaks_give(quatrain: Quatrain, network: Path) -> None:
    words = ("inspect", network, "--plan", "--target", "cuda:sm_90")
    text = " ".join(quatrain(*words).split())
    assert "predicted from published peaks of H100 SXM, not measured" in text
    found = json.loads(quatrain(*words, "--json"))
    assert found["gpu"] == "H100 SXM" and found["predicted_seconds"] > 0
    conv = next(k for k in found["kernels"] if k["ops"][0] == "conv2d")
    assert conv["predicted"]["products"] == 3 * 13 * 7 * 7 * 5 * 3 * 3
    # So small a network waits for launches alone, 1.7 us each; its updates share one.
    assert {k["predicted"]["bound"] for k in found["kernels"]} == {"launches"}
    assert "1.7 us l - sgd + sgd + sgd -> conv.w1" in text
    assert "bound by launches" in quatrain(*words, "--layer", "conv")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("opt", "nothing.qt"), "cannot read nothing.qt: No such file"),
        (("opt", "{program}", "--pass", "sawb_weight"), "did you mean 'sawb_weights'?"),
        (("opt", "{program}", "--pass", "sawb_weights:bit=4"), "has no option 'bit'"),
        (("opt", "{program}", "--pass", "sawb_weights:bits=four"), "not 'four'"),
        (("opt", "{program}", "--pass", "sawb_weights:3"), "'3' is no key=value"),
        (("opt", "{program}", "--pass", "sawb_weights:bits=3,bits=4"), "'bits' twice"),
        (("opt", "{program}", "-o", "/nowhere/x.qt"), "make it first"),
        (("opt", "{program}", "--pas", "x"), "--pass"),
        (("inspect", "{program}"), "is no .qtn file"),
        (("inspect", "nothing.qtn"), "nothing.qtn does not exist"),
        (("inspect",), "NET.qtn"),
        (("inspect", "{net}", "--after", "lowr"), "did you mean 'lower'?"),
        (("inspect", "{net}", "--diff", "lower"), "is the first stage"),
        (("inspect", "{net}", "--layer", "cov"), "did you mean 'conv'?"),
        (("inspect", "{net}", "--after", "lower", "--diff", "lower"), "give one"),
        (("inspect", "{net}", "--diff", "canonicalize", "--layer", "flt"), "'flat'?"),
        (("inspect", "{net}", "--diff", "lower", "--layer", "fc"), "is the first stage"),
        (("inspect", "{net}", "--buffers"), "--plan"),
        (("inspect", "{net}", "--json", "--passes"), "--plan"),
        (("inspect", "{net}", "--plan"), "try --target cpu"),
        (("inspect", "{net}", "--plan", "--target", "cpo"), "did you mean 'cpu'?"),
        (("report", "{net}", "--target", "cuba"), "no target is called 'cuba'"),
        (("recipes", "fp23"), "did you mean 'fp32'?"),
        (("targets", "referense"), "did you mean 'reference'?"),
        (("inspekt",), "inspect"),
        (("compile", "x.py:f"), "--output"),
        (("compile", "x.py:f", "-o", "/nowhere/x.qtn"), "/nowhere is no folder"),
        (("run", "{net}", "--data", "digits", "--threads", "0"), "--threads"),
        (("run", "{net}", "--data", "digits", "--schedule", "cosin"), "did you mean 'cosine'?"),
        (("run", "{net}", "--data", "digits", "--checkpoint-every", "2"), "--checkpoint FILE"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    quatrain: Quatrain, network: Path, program: Path, words: tuple[str, ...], hint: str
) -> None:
    filled = [w.format(program=program, net=network) for w in words]
    assert hint in quatrain(*filled, status=2)


def test_errors_in_ir_text_name_file_and_line(quatrain: Quatrain, tmp_path: Path) -> None:
    path = tmp_path / "bad.qt"
    path.write_text(QUANTIZED.replace("= relu(y)", "= rely(y)"))
    message = quatrain("opt", path, status=2)
    line = next(i for i, t in enumerate(path.read_text().splitlines(), 1) if "rely" in t)
    assert f"{path}: line {line}" in message and "did you mean 'relu'?" in message
    path.write_bytes(b"program \xff")
    assert "is no text file" in quatrain("opt", path, status=2)
    path.write_text("")
    assert "program NAME" in quatrain("opt", path, status=2)


def test_one_line_keeps_what_matters_of_an_excerpt() -> None:
    assert one_line(ParseError("line 3: no\n    3 | x = y")) == "line 3: no [x = y]"
    assert one_line(VerifyError("forward: no\n    a = b\n  > c = d\n    e = f")) == (
        "forward: no [c = d]"
    )
    assert one_line(ValueError("")) == "ValueError"


def test_inspect_shows_stages(quatrain: Quatrain, network: Path) -> None:
    """A file whose recipe does not say so has the pass that every step has."""
    passes = quatrain("inspect", network, "--passes").split()
    assert passes == ["lower", "canonicalize", "skip_nonfinite"]
    assert quatrain("inspect", network, "--after", "lower") == show(parse(CAPTURED))
    final = quatrain("inspect", network)
    assert "after canonicalize, skip_nonfinite" in final
    assert quatrain("inspect", network, "--after", "skip_nonfinite") == final


def test_inspect_diff(quatrain: Quatrain, network: Path) -> None:
    text = quatrain("inspect", network, "--diff", "canonicalize")
    assert text.startswith("--- lower\n+++ canonicalize\n@@")
    changed = [t for t in text.splitlines()[2:] if t[0] in "+-"]
    assert changed == ["+after canonicalize"]


def test_inspect_one_layer(quatrain: Quatrain, network: Path) -> None:
    text = quatrain("inspect", network, "--layer", "fc")
    assert text.splitlines() == [
        "forward:",
        "  # fc",
        "  f = linear(e, fc.w) : f32[3x3]",
        "      reads e : f32[3x13], fc.w : f32[3x13]",
        "",
        "backward:",
        "  # fc",
        "  de = linear_input_grad(df, fc.w) : f32[3x13]",
        "      reads df : f32[3x3], fc.w : f32[3x13]",
        "  dfcw = linear_weight_grad(df, e) : f32[3x13]",
        "      reads df : f32[3x3], e : f32[3x13]",
    ]


def test_inspect_a_pattern_of_layers(quatrain: Quatrain, network: Path) -> None:
    text = quatrain("inspect", network, "--layer", "[cf]*")
    assert "# conv\n" in text and "# fc\n" in text
    assert "kept for backward: a\n" in text
    assert quatrain("inspect", network, "--diff", "canonicalize", "--layer", "fc").strip() == ""


def test_report(quatrain: Quatrain, network: Path) -> None:
    data = json.loads(quatrain("report", network, "--json"))
    assert data["recipe"]["name"] == "fp32" and data["waivers"] == ["fc"]
    assert data["macs"] == sum(g["macs"] for g in data["gemms"]) > 0
    assert data["torch_bytes"] == 7644
    text = quatrain("report", network)
    assert "f32 x f32" in text and "PyTorch" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_recipes(quatrain: Quatrain) -> None:
    assert "ultra_low_4bit" in quatrain("recipes")
    text = quatrain("recipes", "ultra_low_4bit")
    assert "dY into dX" in text and "fp4.even*p" in text and "two_phase_rounding" in text
    data = json.loads(quatrain("recipes", "ultra_low_4bit", "--json"))
    assert data["roles"]["dY into dW"]["ordinary"] == "fp4.odd*p"


def test_targets(quatrain: Quatrain) -> None:
    assert {t["name"] for t in json.loads(quatrain("targets", "--json"))} >= {"cpu", "reference"}
    assert "any code" in quatrain("targets", "reference", "--all")
    text = " ".join(quatrain("targets", "reference").split())
    assert "ultra_low_4bit forward uint4 x int4 NumPy dX fp4.even x int4 NumPy" in text
    assert "NAME" in quatrain("targets", "--all", status=2)


def test_light_commands_need_neither_torch_nor_tvm(network: Path, program: Path) -> None:
    light = (
        ("opt", program, "--pass", "canonicalize"),
        ("run-ir", program),
        ("inspect", network),
        ("report", network),
        ("recipes", "ultra_low_4bit"),
        ("targets",),
        ("study", "cpt"),
        ("--help",),
    )
    words = [[str(word) for word in command] for command in light]
    lines = f"for words in {words!r}:\n    print('status', main(words), flush=True)\n"
    status, out, err = python(lines, forbid=("torch", "tvm"))
    drawn = "6 of 6 inputs and states are drawn by seed 0: x, dy, s ...\n"
    assert (status, err) == (0, f"canonicalize changed nothing\n{drawn}")
    shown = re.split(r"^status (\d)\n", out, flags=re.MULTILINE)
    assert shown[1::2] == ["0"] * len(light) and all(shown[0:-1:2])


def test_the_page_needs_neither_torch_nor_tvm(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.html"
    status, out, err = child("report", network, "--html", path, forbid=("torch", "tvm"))
    assert (status, out) == (0, "") and err.startswith(f"{path}: ") and path.is_file()


def test_what_needs_torch_says_so(network: Path) -> None:
    status, out, err = child("run", network, "--data", "digits", "--steps", 1, forbid=("torch",))
    assert (status, out) == (2, "")
    assert err == "error: torch is not installed; pip install torch\n"


def test_opt_reads_standard_input() -> None:
    status, out, err = child("opt", "-", text=QUANTIZED)
    assert (status, out, err) == (0, show(parse(QUANTIZED)), "")


def test_a_reader_that_leaves_is_no_error(program: Path) -> None:
    command = f"{sys.executable} -m quatrain opt {program} | head -n 1"
    done = subprocess.run(
        ["sh", "-c", command], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("program low\n", "")


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "99999", "²"])
def test_wrong_thread_counts_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(env.THREADS, value)
    with pytest.raises(UsageError, match="whole number"):
        env.threads()


def test_options_outrank_the_environment_and_leave_it_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(env.THREADS, "3")
    monkeypatch.delenv(env.CACHE, raising=False)
    with env.chosen(threads=1, cache=tmp_path, target=None):
        assert (env.threads(), env.cache_dir()) == (1, tmp_path)
    assert env.threads() == 3
    assert env.CACHE not in os.environ
