"""Pages: each is in the menu, their links lead somewhere, the table of recipes is the recipes'."""

from pathlib import Path

import pytest

import quatrain
from quatrain.passes.recipe import load_recipe, recipe_names

from ..site.menu import HOME, TOP, Entry, Group, listed, menu, written
from ..site.offline import fetched
from ..site.pages import code_page, linked_code, links, with_site_links
from ..site.reference import FUNCTIONS

README = (TOP / HOME).read_text(encoding="utf-8")


def test_every_page_is_in_the_menu() -> None:
    missing = {*written()} - listed(menu(README))
    assert not missing, f'name them under "{HOME}: ## Read"'


def test_the_menu_leads_to_pages() -> None:
    assert listed(menu(README)) <= {*written()}


def test_links_lead_to_files() -> None:
    dead = [(page, path) for page in written() for path in links(TOP, page) if not path.exists()]
    assert not dead


def test_the_table_of_recipes() -> None:
    page = (TOP / "docs" / "recipes" / HOME).read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| [`")]
    made = [(name, load_recipe(name)) for name in recipe_names()]
    assert rows == [f"| [`{name}`]({name}.md) | {r.title} | {r.paper} |" for name, r in made]


def test_the_reference_has_all_public_names() -> None:
    elsewhere = {"Task", "QuatrainError", "__version__"}  # a class, the errors, the site's title
    assert {*FUNCTIONS} | elsewhere == {*quatrain.__all__}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two pages, a folder of pages, and a file of code."""
    (tmp_path / "docs" / "sort").mkdir(parents=True)
    for name in ("a.md", "b.md", "sort/README.md", "sort/one.md", "sort/two.md"):
        (tmp_path / "docs" / name).write_text(
            "# Page\n\nSee [code](../own.py#L1) and `](no.py)`.\n"
        )
    (tmp_path / "own.py").write_text('"""What it is.\n\n```\nfenced\n```\n"""\n')
    (tmp_path / HOME).write_text("# Top\n")
    return tmp_path


def test_a_menu(repository: Path) -> None:
    readme = (
        "# Top\n\n## Read\n\nWords.\n\n### First\n\n- [a](docs/a.md), [top](README.md): of it\n"
        "- [out](https://example.org): no page\n\n### Second\n\n- [two](docs/sort/two.md)\n"
        "- [all](docs/sort): of them\n  and [a](docs/a.md) again\n\n## Else\n\n- [b](docs/b.md)\n"
    )
    sort = Entry("docs/sort/README.md", ("docs/sort/one.md",))
    assert menu(readme, repository) == [
        Group("First", (Entry("docs/a.md"),)),
        Group("Second", (Entry("docs/sort/two.md"), sort)),
    ]
    assert {*written(repository)} - listed(menu(readme, repository)) == {"docs/b.md"}


def test_links_of_the_site(repository: Path) -> None:
    text = "[c](../own.py#L1) [s](sort) [s](sort/) [a](b.md#x) [r](../README.md) [w](https://x.org)"
    assert with_site_links(repository, "docs/a.md", text) == (
        "[c](../own.py.md) [s](sort/README.md) [s](sort/README.md) [a](b.md#x) [r](../index.md) "
        "[w](https://x.org)"
    )
    kept = "```\n[c](../own.py)\n```\n`[c](../own.py)`"
    assert with_site_links(repository, "docs/a.md", kept) == kept


def test_pages_of_code(repository: Path) -> None:
    assert linked_code(repository, ["docs/a.md"]) == {"own.py"}
    page = code_page(repository, "own.py")
    assert page.startswith("---\norphan: true\n---\n\n# own.py\n\n````python\n")
    assert page.endswith('"""\n````\n')


def test_what_pages_load_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<script src="here.js"></script><a href="https://example.org">out</a>'
        '<link rel="x" href="https://example.org/a.css"><img src="//example.org/a.png">'
    )
    assert [line.partition(": ")[2] for line in fetched(tmp_path)] == [
        '<link rel="x" href="https://example.org/a.css">',
        '<img src="//example.org/a.png">',
    ]
