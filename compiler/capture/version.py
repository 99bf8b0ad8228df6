"""The torch versions that capture was tried on; every other one is refused with a sentence."""

from __future__ import annotations

from ..errors import CaptureError

TRIED = ("2.11", "2.12", "2.13", "2.14", "2.15")


def require_tried(found: str) -> None:
    """Raise CaptureError unless ``found``, a ``torch.__version__``, is of a release of ``TRIED``.

    Capture stands on parts of torch that are private and move between releases, so an unknown
    version is never run in silence.
    """
    release = ".".join(found.split("+")[0].split(".")[:2])
    if release not in TRIED:
        raise CaptureError(
            f"torch {found} is installed, but capture works with torch {TRIED[0]} to {TRIED[-1]} "
            f'only: run pip install "torch=={TRIED[-1]}.*"'
        )
