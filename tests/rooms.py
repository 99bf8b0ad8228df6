"""Which room knows which: the imports between folders, as a table or a picture.

    python -m tests.rooms                     # the table of docs/rooms.md
    python -m tests.rooms --picture rooms.svg

A room is a folder with the files that lie directly in it; a file above a folder beside it that stands
on the others, such as ``tools/cli.py``, is a door of its own. What a room knows are the rooms that
its files import, type-checking imports included.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from pathlib import Path

import grimp
import networkx as nx

TOP = Path(__file__).parents[1]
DEPTH = 2  # folders below the package that are rooms of their own
COLUMNS = ("compiler", "passes", "targets", "runtime", "tools")  # of the picture


def rooms() -> nx.DiGraph[str]:
    """An edge for each pair of rooms of which one imports the other, with the number of imports."""
    house = grimp.build_graph("quatrain", cache_dir=None)
    imports = Counter[tuple[str, str]]()
    for module in house.modules:
        for other in house.find_modules_directly_imported_by(module):
            imports[_room(module, house), _room(other, house)] += 1
    graph: nx.DiGraph[str] = nx.DiGraph()
    for (a, b), count in sorted(imports.items()):
        if a != b and a and b:
            graph.add_edge(a, b, imports=count)
    return graph


def _room(module: str, house: grimp.ImportGraph) -> str:
    """The folder of a module, at most ``DEPTH`` deep, or the module itself where it is a door.

    Empty for what hands out the names of a whole top-level folder, and for the package itself.
    """
    parts = module.split(".")
    if house.find_children(module):
        return "/".join(parts[1 : DEPTH + 1]) if len(parts) > 2 else ""
    door = len(parts) == DEPTH + 1 and _is_door(module, house)
    return "/".join(parts[1:]) + ".py" if door else "/".join(parts[1:-1][:DEPTH])


def _is_door(module: str, house: grimp.ImportGraph) -> bool:
    """Whether a file knows a folder beside it that itself knows files of the file's folder."""
    folder = module.rpartition(".")[0]
    files = {m for m in house.find_children(folder) if not house.find_children(m)}
    beside = house.find_children(folder) - files
    known = house.find_modules_directly_imported_by(module)
    return any(
        files & house.find_modules_directly_imported_by(other)
        for room in beside
        for other in {room, *house.find_descendants(room)}
        if any(m == room or m.startswith(f"{room}.") for m in known)
    )


def floors(graph: nx.DiGraph[str]) -> list[list[str]]:
    """Rooms by floor: each knows rooms of lower floors alone; raises where there is a circle."""
    return [sorted(floor) for floor in nx.topological_generations(graph.reverse())]


def table(graph: nx.DiGraph[str]) -> str:
    """Rooms from the top floor down: what each is, and those it knows, as Markdown."""
    lines = ["| floor | room | what it is | knows |", "|---|---|---|---|"]
    made = floors(graph)
    for number in reversed(range(len(made))):
        for room in made[number]:
            known = ", ".join(f"`{b}`" for b in sorted(graph.successors(room)))
            lines.append(f"| {number} | `{room}` | {_about(room)} | {known} |")
    return "\n".join(lines)


def _about(room: str) -> str:
    """The first line of its docstring."""
    path = TOP / room if room.endswith(".py") else TOP / room / "__init__.py"
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.splitlines()[0].rstrip(".").replace("``", "`")


def draw(graph: nx.DiGraph[str], path: Path) -> None:
    """A picture: a column for each top-level folder; arrows that follow from others are left out."""
    from matplotlib import pyplot

    places = {}
    for y, floor in enumerate(floors(graph)):
        for x, folder in enumerate(COLUMNS):
            here = [room for room in floor if room.split("/")[0] == folder]
            places.update({room: (3 * x + 1.25 * i, y) for i, room in enumerate(here)})
    pyplot.figure(figsize=(13, 10))
    box = {"boxstyle": "round", "facecolor": "#dde8f0", "edgecolor": "#7c8a97"}
    names = {room: room.replace("/", "/\n") for room in graph}
    nx.draw_networkx_labels(graph, places, names, font_size=9, bbox=box)
    nx.draw_networkx_edges(
        nx.transitive_reduction(graph), places, edge_color="#7c8a97", node_size=1700
    )
    pyplot.axis("off")
    pyplot.savefig(path, bbox_inches="tight")


def main() -> None:
    """Print the table; with ``--picture`` write the picture too."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--picture", type=Path, metavar="FILE")
    args = parser.parse_args()
    graph = rooms()
    print(table(graph))
    if args.picture is not None:
        draw(graph, args.picture)


if __name__ == "__main__":
    main()
