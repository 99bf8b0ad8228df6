"""The doctor's findings that depend on folders and variables; its self-test."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import quatrain
from quatrain.compiler.errors import TargetError
from quatrain.tools import doctor, env, self_test
from quatrain.tools.cli import main
from quatrain.tools.commands import doctor as cmd_doctor
from quatrain.tools.doctor import Finding, Mark


def test_the_cache_and_its_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    monkeypatch.setenv(env.CACHE, str(folder))
    assert doctor.cache() == Finding("cache", Mark.GOOD, f"{folder}, not made yet")
    folder.mkdir()
    (folder / "a.so").write_bytes(bytes(1536))
    assert doctor.cache() == Finding("cache", Mark.GOOD, f"{folder}, 1 files, 1.5 KiB")
    monkeypatch.setenv(env.CACHE, str(folder / "a.so"))
    assert doctor.cache().mark is Mark.BAD


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(env.DATA, raising=False)
    assert doctor.data().mark is Mark.NOTE
    monkeypatch.setenv(env.DATA, str(tmp_path / "none"))
    assert doctor.data().mark is Mark.BAD
    (tmp_path / "cifar10").mkdir()
    monkeypatch.setenv(env.DATA, str(tmp_path))
    assert doctor.data() == Finding("data", Mark.GOOD, f"{tmp_path}: cifar10")


def test_an_untried_version_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "99.1.0+cpu")
    for found in (doctor.torch(), doctor.tvm()):
        assert found.mark is Mark.BAD and "99.1.0+cpu was never tried" in found.text


@pytest.mark.parametrize(
    ("found", "mark", "words"),
    [
        ((3, 10, 9), Mark.BAD, "needs 3.11 or later"),
        ((3, 11, 0), Mark.GOOD, ""),
        ((3, 99, 0), Mark.NOTE, "tried up to 3."),
    ],
)
def test_pythons(
    monkeypatch: pytest.MonkeyPatch, found: tuple[int, int, int], mark: Mark, words: str
) -> None:
    monkeypatch.setattr(sys, "version_info", found)
    assert doctor.python().mark is mark and words in doctor.python().text


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "pip install" in doctor.tvm().text
    assert doctor.libraries().mark is Mark.BAD
    assert doctor.extras().mark is Mark.NOTE


def test_links_that_a_checkout_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.quatrain().mark is Mark.GOOD
    monkeypatch.setattr(quatrain, "__path__", [*quatrain.__path__, "elsewhere"])
    found = doctor.quatrain()
    assert found.mark is Mark.NOTE and "core.symlinks=true" in found.text


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_child", lambda *a: subprocess.CompletedProcess(
        a, 1, "", "Traceback\nOSError: libmissing.so.1: cannot open shared object file\n"
    ))  # fmt: skip
    monkeypatch.setattr(metadata, "version", lambda name: doctor.TVM_TRIED[0] + ".0")
    found = doctor.tvm()
    assert found.mark is Mark.BAD and "libmissing.so.1" in found.text


def test_a_crash_of_the_self_test_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess((), -4, "", "")
    monkeypatch.setattr(doctor, "_child", lambda *a: done)
    assert doctor.self_test() == Finding("self-test", Mark.BAD, "cpu: killed by signal 4")


def test_status_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def good() -> Finding:
        return Finding("this", Mark.GOOD, "fine")

    def bad() -> Finding:
        return Finding("that", Mark.BAD, "gone")

    monkeypatch.setattr(doctor, "CHECKS", (good,))
    assert main(["doctor"]) == 0
    assert "✓ this" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "CHECKS", (good, bad))
    assert main(["doctor", "--json"]) == cmd_doctor.BROKEN_STATUS
    assert [f["mark"] for f in json.loads(capsys.readouterr().out)] == ["ok", "broken"]


def test_the_checks_that_need_nothing_run() -> None:
    for check in (doctor.python, doctor.quatrain, doctor.cpu, doctor.threads, doctor.gpu):
        assert check().text


def test_self_test_of_the_reference() -> None:
    assert "equals the reference in all 21 numbers" in self_test.self_test("reference")
    with pytest.raises(TargetError):
        self_test.self_test("referense")


@pytest.mark.tvm
def test_self_test_of_the_cpu() -> None:
    pytest.importorskip("tvm")
    assert "built for cpu equals the reference" in self_test.self_test("cpu")


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Why libraries of a made up TVM fail, by name, to be filled; CRASHED ends the process."""
    names = ("liba.so", "libb.so", "libc.so", "libc_cuda.so")
    (tmp_path / "lib").mkdir()
    for name in names:
        (tmp_path / "lib" / name).touch()
    why: dict[str, str] = {}

    def child(*words: str) -> subprocess.CompletedProcess[str]:
        answers = [why.get(Path(word).name, "") for word in words[2:]]
        crash = answers.index(doctor.CRASHED) if doctor.CRASHED in answers else None
        said = "".join(f"{answer}\n" for answer in answers[:crash])
        return subprocess.CompletedProcess(words, 0 if crash is None else -11, said, "")

    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(doctor, "find_spec", lambda name: spec)
    monkeypatch.setattr(doctor, "_child", child)
    return why


def test_a_library_for_gpus_may_fail_to_load(libraries: dict[str, str]) -> None:
    assert doctor.shared_libraries() == Finding("shared libraries", Mark.GOOD, "all load")
    libraries["libc_cuda.so"] = "libx.so: missing"
    found = doctor.shared_libraries()
    assert found.mark is Mark.GOOD and "libc_cuda.so" in found.text
    libraries["libb.so"] = "liby.so: missing"
    found = doctor.shared_libraries()
    assert found == Finding("shared libraries", Mark.BAD, "libb.so: liby.so: missing")


@pytest.mark.parametrize("crashing", ["liba.so", "libb.so", "libc_cuda.so"])
def test_a_library_that_crashes_leaves_the_others_known(
    libraries: dict[str, str], crashing: str
) -> None:
    libraries[crashing] = doctor.CRASHED
    libraries["libc.so"] = "liby.so: missing"
    found = doctor.shared_libraries()
    crashed = "" if "cuda" in crashing else f"{crashing}: crashed; "
    assert found.text == f"{crashed}libc.so: liby.so: missing"


def test_a_process_that_finds_no_tvm_says_so(
    libraries: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess((), 1, "", "Traceback\nImportError: no tvm_ffi\n")
    monkeypatch.setattr(doctor, "_child", lambda *words: done)
    assert "liba.so: ImportError: no tvm_ffi" in doctor.shared_libraries().text


def test_wrong_threads_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(env.THREADS, "0")
    found = doctor.threads()
    assert found.mark is Mark.BAD and "is '0'; it is a whole number" in found.text


def test_nothing_is_promised_that_quatrain_lacks() -> None:
    pictures = {"matplotlib", "tensorboardX"}
    assert set(doctor.OPTIONAL) == {"scikit-learn", "onnx", "onnxruntime", *pictures}


ASCII = [("doctor",), ("recipes",), ("recipes", "ultra_low_4bit"), ("targets",), ("--help",)]


@pytest.mark.parametrize("words", [*ASCII, ("compile", "\u00e9.py:f", "-o", "x.qtn")])
def test_streams_of_ascii(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def known(mark: Mark) -> Callable[[], Finding]:
        return lambda: Finding("this", mark, "of \u00e9")

    checks = tuple(map(known, Mark))
    for check in checks:
        check.__name__ = "this"
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(doctor, "CHECKS", checks)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    main(words)
    said = []
    for stream in (out, err):
        stream.flush()
        said.append(stream.buffer.getvalue().decode("ascii"))
    assert "".join(said).strip()
    if words == ("doctor",):
        starts = [line.split()[0] for line in said[0].splitlines()]
        assert starts == ["ok", "note", "broken"] and said[0].count("of \\xe9") == 3


@pytest.mark.tvm
def test_units_of_this_machine() -> None:
    found = doctor.units()
    assert found.mark is Mark.GOOD and "f32" in found.text
