"""All plain networks and losses by name."""

from __future__ import annotations

from .generators import GENERATORS
from .given import Make
from .images import IMAGES
from .losses import LOSSES
from .sequences import SEQUENCES
from .structures import STRUCTURES

PLAIN: dict[str, Make] = {**IMAGES, **SEQUENCES, **STRUCTURES, **GENERATORS, **LOSSES}
