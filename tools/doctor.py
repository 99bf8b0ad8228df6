"""What ``quatrain doctor`` finds out about this machine: a check is one function, one finding."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ..compiler.capture.version import TRIED as TORCH_TRIED
from ..compiler.errors import TargetError, UsageError
from ..runtime.report.tables import size
from ..targets.cpu.info import flags
from ..targets.cuda.compiler import find_compiler
from . import env

TVM_TRIED = ("0.27",)
PYTHON_TRIED = ((3, 11), (3, 12), (3, 13))
NEEDED = ("numpy", "ml_dtypes", "networkx", "safetensors", "rich", "typer")
OPTIONAL = {
    "scikit-learn": "the data set digits",
    "matplotlib": "pictures (--plot)",
    "tensorboardX": "files for TensorBoard (--watch-to)",
    "onnx": "quatrain export",
    "onnxruntime": "quatrain export --verify",
}
SHOWN_FEATURES = (
    *("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avxvnni", "avx512bf16"),
    *("amx-tile", "amx-int8", "amx-bf16"),
)
SELF_TEST_SECONDS = 120
# tvm_ffi loads the library that all others of TVM stand on. A line a library: empty, or an error.
LOAD = """
import ctypes, sys, tvm_ffi
for path in sys.argv[1:]:
    try:
        ctypes.CDLL(path)
        print(flush=True)
    except OSError as error:
        print(str(error).splitlines()[0], flush=True)
"""
CRASHED = "crashed"
# yes, a line a GPU, and the driver; or no and why.
GPUS = """
from quatrain.compiler.errors import TargetError
from quatrain.targets.cuda.driver import load
try:
    driver = load()
    found = [driver.info(i) for i in range(driver.device_count)]
    shown = [f"{x.called}, {x.arch}, {x.memory / 2**30:.1f} GiB" for x in found]
    major, minor = driver.version // 1000, driver.version % 1000 // 10
    print("yes", *shown, f"driver for CUDA {major}.{minor}", sep="\\n")
except TargetError as error:
    print("no", error, sep="\\n")
"""


class Mark(Enum):
    """How a finding is: as it should be, worth knowing, or broken."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: what was looked at, how it is, and in words."""

    what: str
    mark: Mark
    text: str


def python() -> Finding:
    """The interpreter; a newer one than those that were tried may well do."""
    text = f"{platform.python_version()} at {sys.executable}"
    oldest, newest = (".".join(map(str, v)) for v in (PYTHON_TRIED[0], PYTHON_TRIED[-1]))
    if sys.version_info[:2] < PYTHON_TRIED[0]:
        return Finding("Python", Mark.BAD, f"{text}; needs {oldest} or later")
    if sys.version_info[:2] > PYTHON_TRIED[-1]:
        return Finding("Python", Mark.NOTE, f"{text}; tried up to {newest}")
    return Finding("Python", Mark.GOOD, text)


def quatrain() -> Finding:
    """This package, and whether the links of a checkout are there."""
    from .. import __file__, __path__, __version__

    text = f"{__version__} at {Path(__file__).parent}"
    if len(__path__) > 1:
        lost = "its links are lost, which only developers miss: clone with -c core.symlinks=true"
        return Finding("quatrain", Mark.NOTE, f"{text}; {lost}")
    return Finding("quatrain", Mark.GOOD, text)


def torch() -> Finding:
    """PyTorch: its version, whether capture was tried on it, whether it loads."""
    return _tried("torch", "torch", TORCH_TRIED)


def tvm() -> Finding:
    """TVM: its version and whether the kernels were tried on it."""
    return _tried("apache-tvm", "tvm", TVM_TRIED)


def _tried(package: str, module: str, tried: tuple[str, ...]) -> Finding:
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        return Finding(package, Mark.BAD, f'not installed; pip install "{package}=={tried[-1]}.*"')
    release = ".".join(version.split("+")[0].split(".")[:2])
    if release not in tried:
        text = f'{version} was never tried; pip install "{package}=={tried[-1]}.*"'
        return Finding(package, Mark.BAD, text)
    done = _child("-c", f"import {module}")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Finding(package, Mark.BAD, f"{version} does not load: {why}")
    return Finding(package, Mark.GOOD, f"{version}, tried")


def libraries() -> Finding:
    """The other packages."""
    found, missing = [], []
    for package in NEEDED:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding("packages", Mark.BAD, f"missing: {', '.join(missing)}; pip install quatrain")
    return Finding("packages", Mark.GOOD, ", ".join(found))


def extras() -> Finding:
    """Packages that some commands need."""
    missing = [p for p in OPTIONAL if not _installed(p)]
    if missing:
        text = "; ".join(f"without {p} no {OPTIONAL[p]}" for p in missing)
        return Finding("extras", Mark.NOTE, f"{text}; pip install 'quatrain[demo,onnx,plot,watch]'")
    return Finding("extras", Mark.GOOD, ", ".join(OPTIONAL))


def shared_libraries() -> Finding:
    """TVM's shared libraries: those that do not load, with what they miss."""
    spec = find_spec("tvm")
    if spec is None or not spec.submodule_search_locations:
        return Finding("shared libraries", Mark.BAD, "TVM is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
    failed = {p.name: why for p, why in _load(sorted(folder.glob("*.so"))).items() if why}
    for_cuda = [name for name in failed if "cuda" in name]
    missing = [f"{name}: {why}" for name, why in failed.items() if name not in for_cuda]
    if missing:
        return Finding("shared libraries", Mark.BAD, "; ".join(missing))
    but = f" but {', '.join(for_cuda)}, for GPUs only" if for_cuda else ""
    return Finding("shared libraries", Mark.GOOD, f"all load{but}")


def _load(paths: Sequence[Path]) -> dict[Path, str]:
    """Why each library does not load, empty where it does; in one process while none crashes."""
    found: dict[Path, str] = {}
    left = list(paths)
    while left:
        done = _child("-c", LOAD, *map(str, left))
        answers = done.stdout.splitlines()
        if done.returncode:
            said = done.stderr.strip().splitlines() if done.returncode > 0 else []
            answers.append((said or [CRASHED])[-1])
        found |= dict(zip(left, answers, strict=False))
        left = left[max(len(answers), 1) :]
    return found


def cpu() -> Finding:
    """The processor: its name, and the features that kernels use."""
    have = flags()
    listed = " ".join(f for f in SHOWN_FEATURES if f in have or f.replace("avx", "avx_") in have)
    return Finding("CPU", Mark.GOOD, f"{cpu_name()}; {listed or 'no vector features known'}")


def units() -> Finding:
    """What multiplies here: the CPU that kernels are built for and its units."""
    code = (
        "from quatrain.targets.cpu.info import detect; c = detect(); "
        "units = ', '.join(u.value for u in c.units); "
        "print(f'{c.mcpu}, vectors of {c.vector_bytes} bytes: {units}')"
    )
    done = _child("-c", code)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["crashed"])[-1]
        return Finding("units", Mark.BAD, why)
    return Finding("units", Mark.GOOD, done.stdout.strip())


def threads() -> Finding:
    """Threads of a step."""
    note = f" (from {env.THREADS})" if os.environ.get(env.THREADS) else ""
    try:
        count = env.threads()
    except UsageError as error:
        return Finding("threads", Mark.BAD, str(error))
    text = f"{count}{note}; this process may use {env.available_threads()} CPUs"
    return Finding("threads", Mark.GOOD, text)


def cache() -> Finding:
    """The folder of compiled kernels and its size."""
    folder = env.cache_dir()
    if not folder.exists():
        parent = next(p for p in folder.parents if p.exists())
        if os.access(parent, os.W_OK):
            return Finding("cache", Mark.GOOD, f"{folder}, not made yet")
        return Finding("cache", Mark.BAD, f"{folder} cannot be made: {parent} is not writable")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Finding("cache", Mark.BAD, f"{folder} is no writable folder; set {env.CACHE}")
    files = [p for p in folder.rglob("*") if p.is_file()]
    total = sum(p.stat().st_size for p in files)
    return Finding("cache", Mark.GOOD, f"{folder}, {len(files)} files, {size(total)}")


def data() -> Finding:
    """The folder of data sets."""
    folder = env.data_dir()
    if folder is None:
        return Finding("data", Mark.NOTE, f"no folder named; set {env.DATA} or use --data-dir")
    if not folder.is_dir():
        return Finding("data", Mark.BAD, f"{folder} is no folder; set {env.DATA} to one")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    return Finding("data", Mark.GOOD, f"{folder}: {', '.join(names) or 'empty'}")


def gpu() -> Finding:
    """The GPUs of this machine: name, architecture, memory, and what their driver is for."""
    return _gpus()[1]


def _gpus() -> tuple[int, Finding]:
    """How many there are, and what is said of them."""
    done = _child("-c", GPUS)
    if done.returncode:
        return 0, Finding("GPU", Mark.BAD, _last(done))
    found, *lines = done.stdout.splitlines()
    if found == "no":
        return 0, Finding("GPU", Mark.NOTE, "; ".join(lines))
    return len(lines) - 1, Finding("GPU", Mark.GOOD, "; ".join(lines))


def compiler() -> Finding:
    """What makes machine code for a GPU."""
    try:
        return Finding("CUDA compiler", Mark.GOOD, find_compiler().name)
    except TargetError as error:
        return Finding("CUDA compiler", Mark.NOTE, str(error))


def self_test() -> Finding:
    """Build a tiny 4-bit layer for the cpu and each GPU, run it, compare it with the reference."""
    gpus = [f"cuda:{i}" for i in range(_gpus()[0])]
    tried = [_self_test(*targets) for targets in (["cpu"], gpus) if targets]
    bad = [finding for finding in tried if finding.mark is Mark.BAD]
    return bad[0] if bad else Finding("self-test", Mark.GOOD, "; ".join(f.text for f in tried))


def _self_test(*targets: str) -> Finding:
    target = ", ".join(targets)
    try:
        done = _child("-m", "quatrain.tools.self_test", *targets)
    except subprocess.TimeoutExpired:
        return Finding("self-test", Mark.BAD, f"{target} took more than {SELF_TEST_SECONDS} s")
    if done.returncode < 0:
        return Finding("self-test", Mark.BAD, f"{target}: killed by signal {-done.returncode}")
    return Finding("self-test", Mark.BAD if done.returncode else Mark.GOOD, _last(done))


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stdout + done.stderr).strip().splitlines() or ["no output"])[-1]


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    quatrain,
    torch,
    tvm,
    libraries,
    extras,
    shared_libraries,
    cpu,
    units,
    threads,
    cache,
    data,
    gpu,
    compiler,
    self_test,
)


def _child(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, so that nothing it loads can harm the doctor."""
    from .. import __file__ as package

    paths = [str(Path(package).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=SELF_TEST_SECONDS,
        env=environment,
    )


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def cpu_name() -> str:
    """The processor in its maker's words."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
