"""Damages ``.qtn`` files in all ways; each is refused in one sentence or loads as it was.

python -m tests.damage --files 200
"""

from __future__ import annotations

import argparse
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from quatrain.compiler.errors import QuatrainError

from .kills import prepare

Damage = Callable[[bytes, random.Random], bytes]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits are others."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def swap(data: bytes, rng: random.Random) -> bytes:
    """A piece lies elsewhere."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:a] + data[b:] + data[a:b]


def noise(data: bytes, rng: random.Random) -> bytes:
    """A piece is noise."""
    a = rng.randrange(len(data))
    n = rng.randint(1, 2000)
    return data[:a] + rng.randbytes(n) + data[a + n :]


def entries(data: bytes, rng: random.Random) -> bytes:
    """One entry of the archive has other text: numbers grown, lines lost, names foreign."""
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name) / "a.zip", Path(name) / "b.zip"
        source.write_bytes(data)
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(made, "w") as new:
            victim = rng.choice(old.namelist())
            for entry in old.namelist():
                content = old.read(entry)
                if entry == victim:
                    content = _other(content, rng)
                new.writestr(
                    rng.choice((entry, f"../{entry}")) if entry == victim else entry, content
                )
        return made.read_bytes()


def _other(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    turn = rng.randrange(5)
    if turn == 0:
        del lines[rng.randrange(len(lines))]
    elif turn == 1:
        lines.append(lines[rng.randrange(len(lines))])
    elif turn == 2:
        content = content.replace(b"3x3", b"999999999x999999999", rng.randint(1, 3))
        return content.replace(b"[8", b"[80000000000")
    elif turn == 3:
        i = rng.randrange(len(lines))
        lines[i] = lines[i].replace(b"f32", rng.choice((b"f33", b"int4", b"i64")))
    else:
        i = rng.randrange(len(lines))
        lines[i] = lines[i].replace(b"(", b"((", 1).replace(b"=", b"", 1)
    return b"\n".join(lines)


DAMAGES: tuple[Damage, ...] = (cut, flip, swap, noise, entries)


def check(path: Path) -> str:
    """Load a file: ``loads``, or ``refused``; any other error is raised."""
    import quatrain

    try:
        quatrain.load(path, target="reference")
    except QuatrainError as error:
        if "\n" in str(error).strip() and "line" not in str(error):
            raise AssertionError(f"not one sentence: {error}") from error
        return "refused"
    return "loads"


def main() -> None:
    """Damage and load."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, found = random.Random(args.seed), {"refused": 0, "loads": 0}
    with tempfile.TemporaryDirectory() as name:
        network, _ = prepare(Path(name))
        whole, path = network.read_bytes(), Path(name) / "damaged.qtn"
        for i in range(args.files):
            path.write_bytes(DAMAGES[i % len(DAMAGES)](whole, rng))
            found[check(path)] += 1
    print(f"{args.files} damaged files: {found['refused']} refused, {found['loads']} load anyway")


if __name__ == "__main__":
    main()
