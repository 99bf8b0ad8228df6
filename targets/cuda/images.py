"""Kernels as machine code: from the cache where they are there, compiled where they are not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..plan.kernel import KernelSpec
from ..tir.digest import sources
from ..tir.runtime import load_package, version
from ..tir.store import Store
from .compiler import Compiler
from .image import Image, Images, Placed

# Kernels an image: the front end of a compiler takes as long as a few kernels. The same number on
# every machine, so that equal steps that are built give equal files.
SHARE = 16
Share = Sequence[KernelSpec]


def load_images(
    specs: Iterable[KernelSpec], arch: str, cache_dir: Path | None, compiler: Compiler
) -> Images:
    """All kernels of ``specs``, compiled together where they are new, and then kept."""
    wanted = tuple(dict.fromkeys(specs))
    store = Store(cache_dir) if cache_dir else None
    digests = {spec: digest(spec, arch, compiler) for spec in wanted} if store else {}
    found = _found(store, digests) if store else {}

    def make(share: Share) -> Image:
        image = compiled(share, arch, compiler)
        if store:
            _keep(store, image, [digests[spec] for spec in share])
        return image

    for share, image in in_shares([spec for spec in wanted if spec not in found], make):
        found |= {spec: Placed(image, i) for i, spec in enumerate(share)}
    return found


def in_shares(
    specs: Sequence[KernelSpec], make: Callable[[Share], Image]
) -> list[tuple[Share, Image]]:
    """A few kernels an image, in order; images are made beside each other."""
    shares = [specs[i : i + SHARE] for i in range(0, len(specs), SHARE)]
    if shares:
        load_package()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(zip(shares, pool.map(make, shares), strict=True))


def digest(spec: KernelSpec, arch: str, compiler: Compiler) -> str:
    """All that decides a kernel's code."""
    text = f"{version()} {sources()} {compiler.name} {arch} {type(spec).__module__} {spec!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def compiled(specs: Share, arch: str, compiler: Compiler) -> Image:
    """The machine code of some kernels."""
    from .source import cuda_source

    kernels = [spec.build() for spec in specs]
    named = {f"k{i}_{j}": x for i, made in enumerate(kernels) for j, x in enumerate(made)}
    shapes = tuple(tuple((x.grid, x.threads) for x in made) for made in kernels)
    return Image(shapes, compiler.compile(cuda_source(named, arch), arch))


def _keep(store: Store, image: Image, digests: Sequence[str]) -> None:
    """A cache that cannot be written costs time, not the result."""
    if (scratch := store.scratch()) is None:
        return
    with scratch as folder:
        draft = Path(folder) / "image.cubin"
        try:
            draft.write_bytes(image.write())
        except OSError:
            return
        store.add(draft, digests)


def _found(store: Store, digests: Mapping[KernelSpec, str]) -> dict[KernelSpec, Placed]:
    """The kernels that the cache has."""
    images: dict[str, Image | None] = {}
    found: dict[KernelSpec, Placed] = {}
    for spec, key in digests.items():
        if (place := store.find(key)) is None:
            continue
        if place.library not in images:
            images[place.library] = _opened(store.library(place.library))
        image = images[place.library]
        if image is not None and place.number < len(image.shapes):
            found[spec] = Placed(image, place.number)
    return found


def _opened(path: Path | None) -> Image | None:
    try:
        return Image.read(path.read_bytes()) if path else None
    except (OSError, ValueError, TypeError):
        return None
