"""``quatrain cost``, ``report --recipes`` and the ops of ``report`` and ``inspect`` as JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from quatrain.compiler.ir.text import parse
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.bundle import Bundle, write
from quatrain.runtime.cost.accelerator_file import FOLDER, accelerator_names, load_accelerator
from quatrain.runtime.cost.cost_tables import scaled
from quatrain.runtime.cost.resized import resized
from quatrain.tools.cost.sweep import NamedRecipe, sweep, sweep_tables
from quatrain.tools.cost.uncompiled import uncompiled

from ..cases.bill_programs import CAPTURED
from ..cases.bit_machine import PATH as BIT_MACHINE
from ..cases.commands import Quatrain

NAMED = ("--recipe", "fp32", "--accelerator", "bitfusion")
BITFUSION = (FOLDER / "bitfusion.toml").read_text()
FACTORY = """
import torch
import quatrain

def task():
    model = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    example = torch.zeros(4, 7), torch.zeros(4, dtype=torch.int64)
    return quatrain.Task(
        model=model, loss=torch.nn.functional.cross_entropy, optimizer=optimizer, example=example
    )
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A ``.qtn`` by fp32, made without torch."""
    program, path = parse(CAPTURED), tmp_path / "net.qtn"
    state = {v.name: np.zeros(v.type.shape, np.float32) for v in program.state}
    manifest: dict[str, object] = {"target": "reference", "allow": [], "seed": 0}
    write(Bundle(program, program, load_recipe("fp32"), manifest, state), path)
    return path


@pytest.mark.parametrize("name", accelerator_names())
def test_costs_of_a_file(quatrain: Quatrain, net: Path, name: str) -> None:
    text = quatrain("cost", net, "--accelerator", name)
    assert name in text and "optimizer" in text and "32 x 32" in text and "Assumed" in text
    found = json.loads(quatrain("cost", net, "--accelerator", name, "--json"))
    assert found["recipe"] == "fp32" and found["accelerator"] == name and found["samples"] == 3
    parts = {p["part"]: p for p in found["parts"]}
    assert parts["step"]["cycles"] == pytest.approx(found["cycles"]) and found["seconds"] > 0
    energy = sum(sum(p["energy"].values()) for k, p in parts.items() if k != "step")
    assert found["joules"] == pytest.approx(energy * 1e-12)


def test_a_file_by_another_recipe(quatrain: Quatrain, net: Path) -> None:
    words = ("cost", net, "--recipe", "int4:exempt=none", "--json")
    found = json.loads(quatrain(*words))
    assert found["recipe"] == "int4 exempt=none"
    assert {tuple(p["bits"]) for p in found["products"]} == {(4, 4)}
    counted = json.loads(quatrain(*words, "--bits", "2/4/8"))
    assert {tuple(p["bits"]) for p in counted["products"]} == {(4, 2), (8, 4), (8, 2)}
    assert counted["counted_bits"] == "2/4/8"


def test_every_op_has_a_row(quatrain: Quatrain, net: Path) -> None:
    text = quatrain("cost", net, "--ops")
    assert "conv2d_weight_grad" in text and "sgd" in text and "batch_norm_grad_stats" in text


def test_a_sweep_has_a_row_for_each_combination(quatrain: Quatrain, net: Path) -> None:
    words = (
        *("cost", net, "--sweep", "--accelerator", "bitfusion,fp4_array"),
        *("--recipe", "fp32,int4:exempt=none", "--array", "16x32", "--array", "8x8"),
    )
    rows = json.loads(quatrain(*words, "--json"))["rows"]
    assert [(r["recipe"], r["machine"]) for r in rows] == [
        (recipe, f"{machine} {size}")
        for recipe in ("fp32", "int4 exempt=none")
        for machine in ("bitfusion", "fp4_array")
        for size in ("16x32", "8x8")
    ]
    assert all("ops" not in r and r["joules"] > 0 and r["failure"] is None for r in rows)
    text = quatrain(*words)
    assert max(map(len, text.splitlines())) <= 100 and text.count("bitfusion 8x8") == 2


def test_a_sweep_by_part(quatrain: Quatrain, net: Path) -> None:
    words = ("cost", net, "--sweep", "--recipe", "fp32,int4:exempt=none")
    text = quatrain(*words, "--parts", "--accelerator", "bitfusion,fp4_array")
    assert [line for line in text.splitlines() if " on " in line] == [
        f"net on {machine}: {what} of a sample"
        for machine in ("bitfusion", "fp4_array")
        for what in ("time", "energy")
    ]
    (row,) = json.loads(quatrain(*words[:3], *NAMED, "--json"))["rows"]
    assert row["parts"][-1]["part"] == "step"
    (line,) = [x for x in quatrain(*words[:3], *NAMED, "--parts").splitlines() if " J" in x]
    cells = re.findall(r"[\d.]+ [a-z]?J", line)
    assert len(cells) == 6 and cells[1] == "0 J"  # fp32 converts nothing
    assert scaled(row["joules"] / row["samples"], "J") == cells[-1]


def test_parts_that_a_machine_cannot_multiply(quatrain: Quatrain, net: Path) -> None:
    slim = net.parent / "slim.toml"
    unit = '[[units]]\ntakes = ["int2", "int2"]\nrate = 1\npj = 1\nsource = "none"\n'
    slim.write_text(BITFUSION[: BITFUSION.index("[[units]]")] + unit)
    text = quatrain("cost", net, "--sweep", "--parts", "--accelerator", slim)
    assert "accelerator slim multiplies no f32" in " ".join(text.split())


def test_names_of_a_sweep_stay_whole_in_80_columns(net: Path) -> None:
    (row,) = sweep(
        [replace(uncompiled(str(net)), name="mobilenetv2")],
        [NamedRecipe("ultra_low_4bit", load_recipe("fp32"))],
        [resized(load_accelerator("bitfusion"), 16, 32)],
        [None],
    )
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(sweep_tables([row]))
    text = capture.get()
    for name in ("mobilenetv2", "ultra_low_4bit", "bitfusion", "16x32"):
        assert f"{name} " in text, text
    assert max(map(len, text.splitlines())) <= 80


def test_a_sweep_says_what_a_machine_cannot_multiply(quatrain: Quatrain, net: Path) -> None:
    machines = f"bitfusion,{BIT_MACHINE}"
    words = ("cost", net, "--sweep", "--accelerator", machines, "--recipe", "int4:exempt=none")
    text = " ".join(quatrain(*words).split())
    assert "- accelerator bit_machine multiplies no" not in text  # 4-bit codes are f32 numbers too
    slim = net.parent / "slim.toml"
    cut = BITFUSION.index("[[units]]")
    unit = '[[units]]\ntakes = ["int2", "int2"]\nrate = 1\npj = 1\nsource = "none"\n'
    slim.write_text(BITFUSION[:cut] + unit)
    text = " ".join(quatrain("cost", net, "--sweep", "--accelerator", slim).split())
    assert "- accelerator slim multiplies no f32 by f32, which conv (forward) does;" in text
    message = quatrain("cost", net, "--accelerator", slim, status=2)
    assert "give it [[units]] that take them" in message


def test_a_sweep_as_a_picture(quatrain: Quatrain, net: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = net.parent / "sweep.svg"
    words = ("--recipe", "fp32", "--accelerator", "bitfusion", "--plot", picture)
    quatrain("cost", net, "--sweep", *words)
    text = picture.read_text()
    assert "<svg" in text and "bitfusion" in text and "mJ a sample" in text


def test_constants_have_sources(quatrain: Quatrain) -> None:
    text = " ".join(quatrain("cost", "--constants", "--accelerator", "bitfusion").split())
    for word in ("500 MHz", "192 bits a cycle", "0.029 pJ", "bf_e_conf.ini", "0.888 mm2"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("cost",), "name what to cost"),
        (("cost", "nothing.qtn"), "there is no file nothing.qtn"),
        (("cost", "nothing.py:f"), "there is no file nothing.py"),
        (("cost", "net"), "is no FILE.py:FACTORY"),
        (("cost", "{net}", "--accelerator", "bitfusoin"), "did you mean 'bitfusion'?"),
        (("cost", "{net}", "--accelerator", "no.toml"), "there is no file no.toml"),
        (("cost", "{net}", "--accelerator", "{net}.toml"), "an accelerator is a TOML file"),
        (("cost", "{net}", "--accelerator", "bitfusion,cpu_like"), "--sweep"),
        (("cost", "{net}", "--recipe", "fp32,int4"), "--recipe names 2; --sweep"),
        (("cost", "{net}", "--recipe", "fp33"), "did you mean 'fp32'?"),
        (("cost", "{net}", "--recipe", "int4:lr=1"), "nothing is trained"),
        (("cost", "{net}", "{net}"), "--sweep"),
        (("cost", "{net}", "--array", "32"), "--array 32x64"),
        (("cost", "{net}", "--array", "axb"), "--array"),
        (("cost", "{net}", "--bits", "4"), "--bits 4/4/8"),
        (("cost", "{net}", "--bits", "1/4/4"), "each 2 .. 8"),
        (("cost", "{net}", "--batch", "8"), "compiled for its batch"),
        (("cost", "{net}", "--plot", "x.svg"), "--plot goes with --sweep"),
        (("cost", "{net}", "--sweep", "--plot", "x.txt"), ".svg"),
        (("cost", "{net}", "--sweep", "--ops"), "--ops is of one step"),
        (("cost", "{net}", "--constants"), "give it alone"),
        (("cost", "{net}", "--parts"), "--parts goes with --sweep"),
        (("report", "{net}", "--overhead"), "--overhead goes with --recipes"),
        (("report", "x.py:f"), "--recipes NAME"),
        (("report", "{net}", "--batch", "3"), "--recipes NAME"),
        (("report", "{net}", "--recipes", "fp33"), "did you mean 'fp32'?"),
        (("report", "nothing.qtn", "--recipes", "fp32"), "there is no file nothing.qtn"),
        (("inspect", "{net}", "--json", "--layer", "cov"), "did you mean 'conv'?"),
    ],
)
def test_a_mistake_is_one_line(
    quatrain: Quatrain, net: Path, words: tuple[str, ...], hint: str
) -> None:
    assert hint in quatrain(*(w.format(net=net) for w in words), status=2)


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("mhz = 500", "mhz = -1", "clock.mhz is -1; it lies between"),
        ("mhz = 500", "mhz = nan", "clock.mhz is nan; it lies between"),
        ("mhz = 500", "", "clock.mhz is missing; it is a number"),
        ("mhz = 500", "mhz = 500\nvolts = 1", "clock.volts is not known"),
        ("inputs = 16", "inputs = 1.5", "array.inputs is 1.5; it is a whole number"),
        ('gathers = "batch"', 'gathers = "often"', "it is one of never, batch, always"),
        ("double = true", "double = 3", "is 3; it is true or false"),
        ('takes = ["int2", "int2"]', 'takes = ["int2"]', "are two words"),
        ('takes = ["int2", "int2"]', 'takes = ["int2", "nibble"]', "takes 'nibble'"),
        ('rate = "16"', 'rate = "0"', "units[0].rate is '0'; it is a number above 0"),
        ('source = "bf_e_conf.ini: frequency"', "", "say where these numbers are from"),
        ("[memory]", "[memry]", "memory is missing; it is a table, [memory]"),
        ("[clock]", "[clock", "no TOML"),
    ],
)
def test_a_file_that_does_not_read(
    quatrain: Quatrain, net: Path, old: str, new: str, hint: str
) -> None:
    path = net.parent / "mine.toml"
    assert old in BITFUSION
    path.write_text(BITFUSION.replace(old, new, 1))
    message = quatrain("cost", net, "--accelerator", path, status=2)
    assert hint in message and str(path) in message


def test_bills_of_several_recipes_of_one_capture(quatrain: Quatrain, net: Path) -> None:
    words = ("report", net, "--recipes", "fp32,int4:exempt=none")
    text = quatrain(*words)
    assert max(map(len, text.splitlines())) <= 100
    assert "int4 exempt=none" in text and "1.6 %" in text  # 16 of 1024 bit operations
    made = json.loads(quatrain(*words, "--json"))
    assert [b["label"] for b in made["bills"]] == ["fp32", "int4 exempt=none"]
    assert [b["four_bit_share"] for b in made["bills"]] == [0, 1]
    assert [b["gradients_in_4_bits"] for b in made["bills"]] == [0, 1]
    lines = text[text.index("4 bits by direction") :].splitlines()
    (row,) = [line.split() for line in lines if "exempt=none" in line]
    assert row[2:] == [*["100.0", "%"] * 4, "0.0", "%"]


def test_gradients_by_their_bits(quatrain: Quatrain, net: Path) -> None:
    four = "ultra_low_4bit:exempt=none"
    words = ("report", net, "--recipes", f"{four},fp8_on=fc,{four},fp8_on=none", "--json")
    mixed, low = json.loads(quatrain(*words))["bills"]
    # dX and dW of the linear layer read 9 numbers each, dW of the convolution 3 x 13 x 7 x 7.
    whole = 9 + 9 + 1911
    assert [g["elements"][0] for g in low["gemms"] if g["direction"] != "forward"] == [9, 9, 1911]
    assert (low["gradients_in_4_bits"], low["gradients_in_8_bits"]) == (1, 0)
    assert (mixed["gradients_in_4_bits"], mixed["gradients_in_8_bits"]) == (
        1911 / whole,
        18 / whole,
    )


def test_what_quantizing_adds(quatrain: Quatrain, net: Path) -> None:
    words = ("report", net, "--recipes", "fp32,ultra_low_4bit:exempt=none", "--overhead")
    text = quatrain(*words)
    assert "net by fp32" in text and max(map(len, text.splitlines())) <= 100
    found = json.loads(quatrain(*words, "--json"))["bills"][1]["overhead"]
    by = {o["what"]: o for o in found}
    # The convolution's gradient has 1911 numbers, and no dX reads it; fc's has 9, read twice.
    assert by["round_log to fp4.odd*p"]["tensors"] == 2
    assert by["round_log to fp4.odd*p"]["operations"] == 2 * (1911 + 9)
    assert by["round_log to fp4.even*p"]["operations"] == 2 * 9
    assert by["grad_scale"]["tensors"] == 2 and "amax_first" not in by
    assert "grad_scale_step" in text and "round_log to fp4.even*p" in text


@pytest.mark.torch
def test_a_factory_is_captured_once_and_nothing_is_written(
    quatrain: Quatrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "task.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    words = ("report", "task.py:task", "--recipes", "fp32,int4:exempt=none", "--json")
    made = json.loads(quatrain(*words, "--batch", 6))
    macs = 6 * (2 * 7 * 5 + 3 * 5 * 3)  # no dX of the first layer
    assert made["network"] == "task" and {b["macs"] for b in made["bills"]} == {macs}
    found = json.loads(quatrain("cost", "task.py:task", "--recipe", "fp32", "--json"))
    assert found["samples"] == 4 and found["macs"] == macs * 4 // 6
    assert {p.name for p in tmp_path.iterdir()} <= {"task.py", "__pycache__"}
    (tmp_path / "bare.py").write_text(
        "import torch\n\ndef net():\n    return torch.nn.Linear(3, 2)\n"
    )
    assert "returned a bare model; return a quatrain.Task" in quatrain(
        "cost", "bare.py:net", status=2
    )


def test_ops_as_json(quatrain: Quatrain, net: Path) -> None:
    ops = json.loads(quatrain("report", net, "--json"))["ops"]
    shown = json.loads(quatrain("inspect", net, "--json"))
    assert shown["ops"] == ops and shown["passes"][-1] == "skip_nonfinite"
    (conv,) = (o for o in ops if o["op"] == "conv2d_weight_grad")
    product = conv["product"]
    assert (product["m"], product["n"], product["k"]) == (13, 45, 3 * 49)
    assert product["macs"] == 13 * 45 * 147 and product["direction"] == "dW"
    assert (product["kernel"], product["padding"], product["plane"]) == ([3, 3], [1, 1], [7, 7])
    assert conv["bytes_read"] == 4 * 3 * 49 * (13 + 5) and conv["bytes_written"] == 4 * 13 * 45
    (relu,) = (o for o in ops if o["op"] == "relu")
    assert relu["operations"] == {
        "adds": 3 * 13 * 49, "multiplies": 0, "functions": 0, "randoms": 0
    }  # fmt: skip
    (view,) = (o for o in ops if o["op"] == "view" and o["region"] == "forward")
    assert view["bytes_read"] == view["bytes_written"] == 0
    fc = json.loads(quatrain("inspect", net, "--json", "--layer", "fc"))["ops"]
    assert {o["layer"] for o in fc} == {"fc"} and len(fc) == 3


def test_ops_count_what_they_convert(quatrain: Quatrain, net: Path) -> None:
    made = json.loads(quatrain("report", net, "--recipes", "int4:exempt=none", "--json"))
    ops, lines = made["bills"][0]["ops"], made["bills"][0]["conversions"]
    converted = sum(o["times"] * o["converted"] for o in ops)
    assert converted == sum(line["elements"] for line in lines) > 0
