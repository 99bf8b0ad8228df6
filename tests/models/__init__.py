"""Models that people have, judged: ``python -m tests.models``."""
