"""The command line ``quatrain``: one file of ``commands/`` per command, errors as one line.

A file holds a function ``command``, or ``commands``, the functions of a group such as ``study``.

A person's mistake ends with one line on stderr and status 2; an interrupt with status 130.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules

import typer

from ..compiler.errors import QuatrainError, UsageError
from . import commands, env, terminal
from .reproducer import repeatable
from .stages import shown

FAILED, INTERRUPTED = 2, 130
# The order in which --help lists the commands; those that are not named follow.
ORDER = (
    *("demo", "compile", "run", "build", "export", "inspect", "opt", "compare", "run-ir"),
    *("report", "watched", "cost", "recipes", "targets", "study", "doctor"),
)
# Packages that some commands do without, and the name to install each by.
PACKAGES = {
    "torch": "torch",
    "tvm": "apache-tvm",
    "sklearn": "scikit-learn",
    "networkx": "networkx",
    "onnx": "onnx",
    "safetensors": "safetensors",
}
# Every mistake in the arguments is one of these, whichever library typer stands on.
_ArgumentError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


def app() -> typer.Typer:
    """The application with all commands; heavy imports wait until a command runs."""
    made = typer.Typer(
        name="quatrain",
        help="Compile a PyTorch training step to low-bit kernels, look into it and run it.",
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_root)
    names = {module.name.replace("_", "-") for module in iter_modules(commands.__path__)}
    for name in sorted(names, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n)):
        module = import_module(f".{name.replace('-', '_')}", commands.__name__)
        if hasattr(module, "command"):
            made.command(name)(module.command)
        else:
            made.add_typer(_group(name, module.__doc__ or "", module.commands), name=name)
    return made


def _group(name: str, doc: str, commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    """A command that has commands of its own; its help is the first line of its file."""
    made = typer.Typer(name=name, help=doc.splitlines()[0].partition(": ")[2])
    for word, function in commands.items():
        made.command(word)(function)
    return made


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        terminal.line(f"quatrain {__version__}")
        raise typer.Exit()


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Compile a PyTorch training step to low-bit kernels, look into it and run it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. ``arguments`` are those of the process if None."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        terminal.spell_what_streams_lack()
        env.check_names()
        with shown(), repeatable():
            status = app()(words, prog_name="quatrain", standalone_mode=False)
        sys.stdout.flush()
    except QuatrainError as error:
        return _fail(one_line(error))
    except _ArgumentError as error:
        return _fail(one_line(_readable(error)))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        return _fail(f"{package} is not installed; pip install {PACKAGES[package]}")
    except BrokenPipeError:
        # The reader has gone; what is still buffered goes nowhere instead of raising at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return FAILED


def one_line(error: Exception) -> str:
    """The message of an error on one line: of an excerpt only the line that matters."""
    first, *rest = str(error).splitlines() or [type(error).__name__]
    marked = [m[1] for line in rest if (m := re.match(r"\s*(?:>|\d+ \|)\s*(.*)", line))]
    return f"{first.strip()} [{marked[0].strip()}]" if marked else first.strip()


def _readable(error: Exception) -> UsageError:
    """The argument library's words for a mistake, with where to look it up."""
    message = str(getattr(error, "format_message", lambda: error)()).rstrip(".")
    context = getattr(error, "ctx", None)
    return UsageError(f"{message}; see {getattr(context, 'command_path', 'quatrain')} --help")
