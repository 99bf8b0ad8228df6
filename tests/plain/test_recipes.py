"""Recipes and their options: reading, changing, saving, refusing, and passes from a user's file."""

import json
import re
from pathlib import Path

import pytest

from quatrain.compiler.errors import QuatrainError, RecipeError, VerifyError
from quatrain.compiler.ir import Program
from quatrain.passes import PASSES
from quatrain.passes.parts.options import options_of, read_options
from quatrain.passes.parts.order import PLACES
from quatrain.passes.recipe import Recipe, load_recipe, recipe_names
from quatrain.passes.recipe.roles import roles
from quatrain.passes.recipe.user_pass import LOADED
from tests.cases.residual import resnet

FULL = load_recipe("ultra_low_4bit")
FOUR_BIT = {"int4", "uint4", "fp4.even", "fp4.odd"}


def formats(program: Program) -> set[str]:
    return {r.type.short for _, op in program.ops() for r in op.results}


def final(**options: object) -> Program:
    return FULL.with_options(options).apply(resnet(middle=1))[-1][1]


def recipe(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_names() -> None:
    assert {"dfp16", "fp32", "pact_sawb", "sbm8", "ultra_low_4bit", "wageubn"} <= set(
        recipe_names()
    )
    assert load_recipe(FULL) is FULL


def test_fp32_changes_nothing_that_is_alive() -> None:
    program = resnet()
    ((label, after),) = load_recipe("fp32").apply(program)
    assert label == "canonicalize"
    assert [op.kind for _, op in after.ops()] == [op.kind for _, op in program.ops()]


def test_stages_carry_label_program_and_history() -> None:
    seen: list[str] = []
    stages = FULL.apply(resnet(), lambda label, program: seen.append(label))
    assert seen == [label for label, _ in stages] == list(FULL.labels)
    assert stages[-1][1].history == FULL.labels


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        ({}, {"uint4*t", "int4*t", "fp4.even*p", "fp4.odd*p", "fp8.152*p", "bf16"}, set()),
        ({"bits": 8}, {"uint8*t", "int8*t"}, {"uint4*t", "int4*t"}),
        ({"sawb_weights.bits": "2"}, {"uint4*t", "int2*t"}, {"int4*t"}),
        ({"grid": "16"}, {"int4.midrise*t"}, {"int4*t"}),
        ({"bits": 3, "grid": 16}, {"uint3*t", "int3.midrise*t"}, {"uint4*t", "int4*t"}),
        ({"bits": 8, "grid": 16}, {"uint8*t", "int8.midrise*t"}, {"int8*t"}),
        ({"radix": 16}, {"fp4.r16.even*p", "fp4.r16.odd*p"}, {"fp4.even*p", "fp4.odd*p"}),
        ({"radix": 16, "odd_shift": -1}, {"fp4.r16.even*p", "fp4.r16.odd_low*p"}, set()),
        ({"radix": 2, "single": True}, {"fp4.r2*p"}, {"fp4.even*p", "fp4.odd*p"}),
        ({"radix": 8, "single": True, "sr": True}, {"fp4.r8*p"}, {"fp4.even*p"}),
        ({"log5": True}, {"fp5.140*p"}, {"fp4.even*p", "fp4.odd*p"}),
        ({"fp8_on": "3x3"}, {"fp8.152*p", "fp4.even*p"}, set()),
        ({"fp8_on": "none"}, {"fp4.even*p"}, {"fp8.152*p"}),
        ({"fp8_on": ["1x1", "layer2.0.conv2"]}, {"fp8.152*p"}, set()),
        ({"single": "yes"}, {"fp4.even*p"}, {"fp4.odd*p"}),
        ({"odd_shift": "-1"}, {"fp4.odd_low*p"}, {"fp4.odd*p"}),
        ({"carrier": "f16"}, {"f16"}, {"bf16"}),
        ({"carrier": "f32"}, {"f32*p"}, {"bf16"}),
        ({"exempt": "*"}, {"bf16"}, {"uint4*t", "int4*t", "bf16*p"}),
    ],
)
def test_options_reach_the_formats(
    options: dict[str, object], there: set[str], absent: set[str]
) -> None:
    found = formats(final(**options))
    assert there <= found and not absent & found


def test_options_reach_the_ops() -> None:
    kinds = {op.kind for _, op in final(pact_plus=True, sr="on", gradscale="instant").ops()}
    assert {"pact_plus_grad", "round_stochastic"} <= kinds
    assert not {"round_log", "grad_scale_step", "amax"} & kinds
    tops = [op.float_attr("top") for _, op in final().ops() if op.kind == "grad_scale_init"]
    assert sorted(set(tops)) == [64.0, 57344.0]
    ups = {op.float_attr("up") for _, op in final(midpoint=3).ops() if op.kind == "round_log"}
    assert ups == {4 / 3}
    decay = [op.attrs["value"] for _, op in final(pact_decay="1e-3").ops() if op.kind == "constant"]
    assert decay.count(0.001) == 4


def test_one_pass_outranks_all_and_the_change_is_on_record() -> None:
    changed = FULL.with_options({"sawb_weights.exempt": "none", "exempt": "first"})
    assert changed.settings["sawb_weights.exempt"] == "none"
    assert changed.settings["pact_activations.exempt"] == "first"
    assert dict(changed.options) == {"exempt": "first", "sawb_weights.exempt": "none"}
    assert FULL.settings["exempt"] == "first,last,shortcut", "recipes do not change in place"


def test_digest_follows_what_the_recipe_does() -> None:
    assert FULL.with_options({"carrier": "bf16"}).digest == FULL.digest
    assert FULL.with_options({"carrier": "f32"}).digest != FULL.digest
    assert load_recipe("fp32").digest != FULL.digest


def test_plain_data_and_back() -> None:
    changed = FULL.with_options({"carrier": "f32", "pact_activations.bits": "8"})
    again = Recipe.from_dict(json.loads(json.dumps(changed.to_dict())))
    assert again == changed and again.digest == changed.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"carier": "f32"}, "ultra_low_4bit has no option 'carier'; did you mean 'carrier'?"),
        ({"carrier": "fp32"}, "option carrier of carrier must be bf16, f32 or f16, not 'fp32'"),
        ({"two_phase_rounding.fase": "x"}, "did you mean 'two_phase_rounding.phase'?"),
        ({"sr": "maybe"}, "option sr of two_phase_rounding must be true or false, not 'maybe'"),
        ({"bits": 6}, "option bits of sawb_weights must be 2, 3, 4, 5, 7 or 8, not 6"),
        ({"bits": 3}, "no published coefficients for 3 bits with a zero (grid=15); take grid=16"),
        (
            {"bits": 7, "grid": 16},
            "no published coefficients for 7 bits without a zero (grid=16); take grid=15",
        ),
        (
            {"bits": 8, "coefficients": "luq"},
            "coefficients=luq are those of 4 bits with a zero, not of int8",
        ),
        ({"pact_activations.bits": 9}, "must be 2, 3, 4, 5, 6, 7 or 8, not 9"),
        ({"radix": 3}, "option radix of two_phase_rounding must be 2, 4, 8 or 16, not 3"),
        ({"radix": 8}, "radix=8 has no odd phase, as the root of 8 is no power of two"),
        ({"radix": 2, "log5": True}, "log5=true is a format of radix 2 and 5 bits; radix=2"),
        ({"radix": 16, "midpoint": 16}, "between 1 and 16"),
        ({"bits": True}, "not True"),
        ({"clip_init": "nan"}, "must be a finite number, not 'nan'"),
        ({"clip_init": 0}, "clip_init=0 must be positive"),
        ({"clip_floor": -1}, "clip_floor=-1 must be positive"),
        ({"pact_decay": -0.1}, "pact_decay=-0.1 must not be negative"),
        ({"top": 0}, "top=0 must be positive"),
        ({"midpoint": "middle"}, "midpoint=middle is not arithmetic, harmonic or a number"),
        ({"midpoint": 4}, "between 1 and 4"),
        ({"fp8_on": "2x"}, "no layer with a GEMM is called '2x'"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        FULL.with_options(options).apply(resnet())
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one [[passes]] entry"),
        ("titel = 'x'", "'titel' is no key of a recipe; did you mean 'title'?"),
        ("passes = 3", "at least one [[passes]] entry"),
        ("[[passes]]\nname = 'carrier'", 'needs a line pass = "NAME"'),
        ("[[passes]]\npass = 'carier'", "no pass is called 'carier'; did you mean 'carrier'?"),
        ("[[passes]]\npass = 'carrier'\ncarier = 'f32'", "carrier has no option 'carier'"),
        ("[[passes]]\npass = 'subsample'\nx = 1", "subsample has no option 'x'; it has none"),
        ("[[passes]]\npass = 'carrier'\ncarrier = 16", "must be bf16, f32 or f16, not 16"),
        ("[options]\nbits = 4\n[[passes]]\npass = 'carrier'", "has no option 'bits'"),
        ("passes =", "is no TOML"),
        ("[[passes]]\npass = 'gone.py:f'", "gone.py"),
    ],
)
def test_wrong_recipe_files_are_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(tmp_path, text))
    said = str(caught.value)
    assert message in said and "mine.toml" in said and "\n" not in said


def in_order(folder: Path, *passes: str) -> Path:
    return recipe(folder, "".join(f'[[passes]]\npass = "{name}"\n' for name in passes))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("carrier", "sawb_weights"),
        ("two_phase_rounding", "grad_scale"),
        ("two_phase_rounding", "hybrid_fp8"),
        ("recompute", "subsample"),
        ("cyclic_precision", "range_batch_norm"),
        ("depthwise_bits", "gated_precision"),
    ],
)
def test_passes_the_wrong_way_around_are_refused(tmp_path: Path, first: str, second: str) -> None:
    path = in_order(tmp_path, first, "canonicalize", second)
    said = f"recipe {path}: {first} stands ahead of {second} and must stand behind it"
    with pytest.raises(RecipeError, match=f"^{re.escape(said)}$"):
        load_recipe(path)
    assert load_recipe(in_order(tmp_path, second, first)).labels == (second, first)
    assert len(load_recipe(in_order(tmp_path, first, second, first)).passes) == 3


def test_places_name_passes() -> None:
    placed = [PLACES[p] for p in PASSES.values() if p in PLACES]
    named = {n for place in placed for n in (*place.after, *place.before) if isinstance(n, str)}
    assert named <= PASSES.keys()


def test_a_users_pass_has_a_place_if_it_says_so(tmp_path: Path) -> None:
    code = f"from quatrain.passes.parts.order import placed\n{MY_PASS}"
    code = code.replace("def widen(", '@placed(after=("carrier",))\ndef widen(')
    user_recipe(tmp_path, code)
    with pytest.raises(RecipeError, match=r"mine\.py:widen stands ahead of carrier"):
        load_recipe(in_order(tmp_path, "mine.py:widen", "carrier"))
    user_recipe(tmp_path)
    assert load_recipe(in_order(tmp_path, "mine.py:widen", "carrier")).labels[0] == "widen"


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'ultra_low_4bit'"):
        load_recipe("ultra_low_4bits")
    with pytest.raises(RecipeError, match="No such file"):
        load_recipe(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"passes": 3},
        {"passes": [3]},
        {"passes": [{"pass": "carrier"}]},
        {"passes": [{"pass": "gone", "options": {}}]},
        {"passes": [{"pass": "carrier", "options": {"carrier": [1]}}]},
        {"passes": [], "options": []},
    ],
)
def test_damaged_saved_recipes_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_dict(data)


def test_shared_table_own_entry_and_a_repeated_pass(tmp_path: Path) -> None:
    text = """
    [options]
    exempt = ["first", "last"]
    [[passes]]
    pass = "sawb_weights"
    [[passes]]
    pass = "pact_activations"
    exempt = "none"
    [[passes]]
    pass = "canonicalize"
    [[passes]]
    pass = "canonicalize"
    """
    mine = load_recipe(recipe(tmp_path, text))
    assert mine.labels[2:] == ("canonicalize", "canonicalize#2")
    assert mine.settings["sawb_weights.exempt"] == "first,last"
    assert mine.settings["pact_activations.exempt"] == "none"
    assert [label for label, _ in mine.apply(resnet())] == list(mine.labels)


MY_PASS = '''
from dataclasses import replace

from quatrain.compiler.ir import Op, Program, Region


def widen(program: Program, *, factor: float = 2.0) -> Program:
    """Scale each relu."""

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind != "relu":
            return None
        return (replace(op, kind="scale", attrs={"factor": factor}),)

    return program.rewrite(rule)
'''


def user_recipe(folder: Path, code: str = MY_PASS, name: str = "widen") -> Path:
    (folder / "mine.py").write_text(code, encoding="utf-8")
    return recipe(folder, f'[[passes]]\npass = "mine.py:{name}"\n')


def test_a_pass_from_the_users_file(tmp_path: Path) -> None:
    mine = load_recipe(user_recipe(tmp_path)).with_options({"factor": "3"})
    ((label, program),) = mine.apply(resnet())
    factors = {op.float_attr("factor") for _, op in program.ops() if op.kind == "scale"}
    assert label == "widen" and factors == {3.0} and program.history == ("widen",)
    assert Recipe.from_dict(mine.to_dict()) == mine


def test_a_saved_recipe_runs_no_code(tmp_path: Path) -> None:
    code = MY_PASS + "\n# another content, so that no other test has loaded it\n"
    mine = load_recipe(user_recipe(tmp_path, code))
    data = mine.to_dict()
    assert mine.digest != load_recipe("fp32").digest
    assert mine.passes[0].origin is not None
    del LOADED["widen", mine.passes[0].origin.sha256]
    with pytest.raises(RecipeError, match=r"runs no code; .*--recipe FILE\.toml .*load_recipe"):
        Recipe.from_dict(data)


def test_a_pass_file_that_changed_since_is_named_with_both_hashes(tmp_path: Path) -> None:
    saved = load_recipe(user_recipe(tmp_path, f"{MY_PASS}\n# as it was saved\n"))
    data = saved.to_dict()
    (then,) = (s.origin for s in saved.passes)
    now = load_recipe(user_recipe(tmp_path, f"{MY_PASS}\n# as it is now\n")).passes[0].origin
    assert then is not None and now is not None
    del LOADED["widen", then.sha256]
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(data)
    hashes = f"(saved sha256 {then.sha256[:8]}.., now {now.sha256[:8]}..)"
    assert "mine.py has changed since" in str(caught.value) and hashes in str(caught.value)


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("def", "f", "cannot be loaded: SyntaxError"),
        ("import no_such_module", "f", "cannot be loaded: ModuleNotFoundError"),
        (MY_PASS, "wide", "defines no function 'wide'; did you mean 'widen'? known: widen"),
        ("x = 1", "f", "defines no function 'f'; it defines none"),
        ("def f(a, b): pass", "f", "f is no pass; a pass is 'def f(program, *, option=default)'"),
        ("def f(p, *, n): pass", "f", "option n of f needs a default"),
        ("def f(p, *, n=()): pass", "f", "option n of f needs a default"),
        ("def f(p): return 1 / 0", "f", "failed at mine.py:1 with ZeroDivisionError"),
        ("def f(p): return None", "f", "returned a NoneType, not a Program"),
    ],
)
def test_faults_in_a_users_pass(tmp_path: Path, code: str, name: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(user_recipe(tmp_path, code, name)).apply(resnet())
    assert message in str(caught.value)


def test_a_broken_program_names_the_pass(tmp_path: Path) -> None:
    code = "from dataclasses import replace\ndef f(p): return replace(p, regions=p.regions[1:])\n"
    with pytest.raises(VerifyError, match="after pass f: "):
        load_recipe(user_recipe(tmp_path, code, "f")).apply(resnet())


def test_options_come_from_the_signature() -> None:
    def example(program: Program, *, n: int = 3, x: float = 0.5, flag: bool = False) -> Program:
        return program

    known = options_of(example)
    assert [(o.name, o.type, o.default) for o in known.values()] == [
        ("n", int, 3),
        ("x", float, 0.5),
        ("flag", bool, False),
    ]
    read = read_options("example", known, {"n": "+4", "x": 1, "flag": "ON"})
    assert read == {"n": 4, "x": 1.0, "flag": True} and isinstance(read["x"], float)
    for wrong in ({"n": "4.5"}, {"n": 4.5}, {"x": "inf"}, {"flag": 2}, {"m": 1}):
        with pytest.raises(QuatrainError):
            read_options("example", known, wrong)


def test_roles_are_read_from_the_programs() -> None:
    table = roles(FULL.with_options({"fp8_on": "1x1,5x5,layer7.*", "exempt": "first,last,stem.*"}))
    columns = ["role", "ordinary", "1x1 convolution", "product", "first", "shortcut", "last"]
    assert [*table.columns] == columns
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["activation into forward"] == (
        "uint4*t",
        "uint4*t",
        "bf16",
        "bf16",
        "uint4*t",
        "bf16",
    )
    assert rows["weight into dX"] == ("int4*t", "int4*t", "bf16", "-", "int4*t", "bf16")
    assert rows["dY into dX"] == ("fp4.even*p", "fp8.152*p", "bf16", "-", "fp8.152*p", "bf16")
    assert rows["dY into dW"] == ("fp4.odd*p", "fp8.152*p", "bf16", "bf16", "fp8.152*p", "bf16")
    assert rows["weight in the update"] == ("f32", "f32", "-", "f32", "f32", "f32")
