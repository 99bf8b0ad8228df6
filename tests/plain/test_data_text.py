"""Text as data: tokens and vocabulary, windows, batches that go on where the last one ended."""

import re
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import DataError, QuatrainError
from quatrain.tools.batches import by_label, eval_batches, measure, train_batches
from quatrain.tools.data import load_any, load_data
from quatrain.tools.dataset import CHARACTERS, WORDS, Dataset, Text, windows

TRAIN, TEST = " the cat <unk> sat \n on the mat \n", " the dog sat \n"


def text(path: object) -> Text:
    found = load_any(str(path))
    assert isinstance(found, Text)
    return found


def said(t: Text) -> tuple[list[str], list[str]]:
    """Both parts in their tokens."""
    train, test = ([t.vocabulary[i] for i in part] for part in (t.train, t.test))
    return train, test


def write_parts(folder: Path, prefix: str = "ptb.", held_out: str = "valid") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{prefix}train.txt").write_text(TRAIN)
    (folder / f"{prefix}{held_out}.txt").write_text(TEST)
    return folder


@pytest.mark.parametrize(("prefix", "held_out"), [("ptb.", "valid"), ("", "test"), ("a_", "val")])
def test_words_of_a_folder(tmp_path: Path, prefix: str, held_out: str) -> None:
    found = text(write_parts(tmp_path / "ptb", prefix, held_out))
    assert (found.name, found.tokens) == ("ptb", WORDS)
    assert found.vocabulary == ("<eos>", "<unk>", "cat", "mat", "on", "sat", "the")
    train, test = said(found)
    assert train == TRAIN.replace("\n", "<eos>").split()
    assert test == ["the", "<unk>", "sat", "<eos>"]


def test_the_part_that_is_called_test_goes_ahead(tmp_path: Path) -> None:
    write_parts(tmp_path)
    (tmp_path / "ptb.test.txt").write_text("cat <unk>\n")
    assert said(text(tmp_path))[1] == ["cat", "<unk>", "<eos>"]


def test_characters_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_text("abcabcabcaéz", encoding="utf-8")
    for place in (path, tmp_path):
        found = text(f"{place}:held_out=0.25")
        # What the training text lacks is one token more.
        assert found.tokens == CHARACTERS and found.vocabulary == ("a", "b", "c", "<unk>")
        assert said(found) == ([*"abcabcabc"], ["a", "<unk>", "<unk>"])
    assert text(f"{path}:tokens=words").vocabulary == ("abcabcabcaé", "<unk>")
    assert len(text(path).test) == 1
    with pytest.raises(DataError, match="of which windows are the examples"):
        load_data(str(path))


def test_names_are_folders_of_the_data_folder(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"there is no shakespeare in .*it lies in .*tinyshakespeare"
    ):
        load_any("shakespeare", tmp_path)
    write_parts(tmp_path / "ptb")
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("to be or not to be")
    for name, unit in (("ptb", WORDS), ("shakespeare", CHARACTERS)):
        found = load_any(name, tmp_path)
        assert isinstance(found, Text) and found.tokens == unit


def test_texts_that_are_refused(tmp_path: Path) -> None:
    def refused(word: object, message: str) -> None:
        with pytest.raises(QuatrainError, match=message) as found:
            load_any(str(word))
        assert "\n" not in str(found.value)

    refused(tmp_path / "no.txt", "there is no file")
    (tmp_path / "train.txt").write_text("x")
    refused(tmp_path, "has train.txt and no test, valid, val beside it")
    (tmp_path / "test.txt").write_text(" ")
    refused(tmp_path, "has no held-out text; it is empty")
    (tmp_path / "train.txt").rename(tmp_path / "other.txt")
    refused(tmp_path, "holds other.txt, test.txt; it needs train.txt and test.txt, or one")
    (tmp_path / "other.txt").write_bytes(b"caf\xe9")
    refused(tmp_path / "other.txt", "is no text file")
    (tmp_path / "other.txt").write_text("")
    refused(tmp_path / "other.txt", "has no training text")
    refused(f"{tmp_path / 'other.txt'}:tokens=letters", "it is words or characters")
    refused(f"{tmp_path / 'other.txt'}:resize=3", "has no option 'resize'")


def counting(train: int, test: int) -> Text:
    """Text whose tokens are their own places."""
    return Text("counted", WORDS, (), np.arange(train), np.arange(test))


@pytest.mark.parametrize("time_first", [False, True])
def test_a_batch_goes_on_where_the_one_before_ended(time_first: bool) -> None:
    # Two streams of 13; four windows of three each, and one token that is left out.
    data = windows(counting(28, 8), 3, 2, time_first=time_first)
    pairs = [*train_batches(data, 2, seed=7, epoch=5)]
    assert len(pairs) == 4
    xs, ys = (np.stack([pair[i] for pair in pairs]) for i in (0, 1))
    assert xs.dtype == ys.dtype == np.int64 and np.array_equal(ys, xs + 1)
    assert xs.shape == ((4, 3, 2) if time_first else (4, 2, 3))
    streams = xs.transpose(2, 0, 1) if time_first else xs.transpose(1, 0, 2)
    assert streams.reshape(2, 12).tolist() == [[*range(12)], [*range(13, 25)]]
    resumed = [*train_batches(data, 2, seed=7, epoch=5, start=3)]
    assert np.array_equal(resumed[0][0], pairs[3][0])
    assert [x.tolist() for x, _ in eval_batches(data, 2)] == [[[0, 1, 2], [3, 4, 5]]]


def test_a_text_too_short_for_a_batch_is_refused() -> None:
    assert len(windows(counting(7, 4), 3, 2).x_train) == 2
    for train, test in ((6, 4), (7, 3)):
        with pytest.raises(DataError, match="takes 2 windows of 3 at a time, so at least 7 and 4"):
            windows(counting(train, test), 3, 2)


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_the_loss_of_the_test_part(batch: int, time_first: bool) -> None:
    """Three windows: the last batch is filled up, and what fills it is not counted."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 7, 60), rng.integers(0, 7, 13)
    data = windows(Text("drawn", WORDS, (), *tokens), 4, batch, time_first=time_first)
    table = rng.standard_normal((7, 7))  # scores of the token behind each token
    chances = np.exp(table) / np.exp(table).sum(1, keepdims=True)
    pairs = [*zip(tokens[1][:12].tolist(), tokens[1][1:].tolist(), strict=True)]
    layouts = (
        lambda x: table[x],
        lambda x: table[x].reshape(-1, 7),
        lambda x: np.moveaxis(table[x], -1, 1),
    )
    for scores in layouts:

        def predict(x: np.ndarray, scores=scores) -> np.ndarray:  # type: ignore[no-untyped-def]
            assert x.shape == ((4, batch) if time_first else (batch, 4))
            return np.asarray(scores(x))

        found = measure(predict, data, batch)
        assert found.accuracy == np.mean([table[a].argmax() == b for a, b in pairs])
        # Twelve logarithms of numbers in float64.
        assert found.loss == pytest.approx(-np.mean([np.log(chances[a, b]) for a, b in pairs]))


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"predict gives \[3, 5\] for labels \[4\]"):
        by_label(np.zeros((3, 5)), (4,))


def test_the_page_about_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    folder = tmp_path / "DATA" / "tinyshakespeare"
    folder.mkdir(parents=True)
    (folder / "input.txt").write_text("to be or not to be, " * 200)
    monkeypatch.chdir(tmp_path)
    made: dict[str, object] = {}
    exec(compile(source, "data.md", "exec"), made)
    data = made["data"]
    assert isinstance(data, Dataset)
    assert data.x_train.shape == (32, 64) and data.x_test.shape == (6, 64)
