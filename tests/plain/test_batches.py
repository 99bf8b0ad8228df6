"""Batches: order and augmentation depend on seed, epoch and number alone; accuracy."""

import numpy as np
import pytest

from quatrain.compiler.errors import DataError
from quatrain.tools.batches import (
    accuracy,
    augment,
    batches_per_epoch,
    eval_batches,
    normalize,
    train_batches,
)
from quatrain.tools.dataset import Augmentation, Dataset


def images(rows: int = 27, channels: int = 3, size: int = 7) -> Dataset:
    x = np.random.default_rng(0).integers(0, 256, (rows + 5, channels, size, size), np.uint8)
    y = np.arange(rows + 5, dtype=np.int64)
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.25, 0.3)[:channels]
    part = slice(rows), slice(rows, None)
    return Dataset(
        "made", x[part[0]], y[part[0]], x[part[1]], y[part[1]], mean, std, Augmentation(2)
    )


def test_resume_in_mid_epoch_sees_the_same_bytes() -> None:
    data = images()
    whole = list(train_batches(data, 4, seed=3, epoch=2))
    assert len(whole) == batches_per_epoch(data, 4) == 6
    for start in range(7):
        rest = list(train_batches(data, 4, seed=3, epoch=2, start=start))
        assert len(rest) == 6 - start
        for (x, y), (x0, y0) in zip(rest, whole[start:], strict=True):
            assert x.tobytes() == x0.tobytes() and np.array_equal(y, y0)


def test_an_epoch_visits_each_row_once_in_an_order_of_its_own() -> None:
    data = images(28)
    orders = [
        np.concatenate([y for _, y in train_batches(data, 7, seed=seed, epoch=epoch)]).tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(sorted(order) == list(range(28)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("batch", [0, -1, 28])
def test_an_impossible_batch_is_refused(batch: int) -> None:
    with pytest.raises(DataError, match=r"27 training rows of made; use 1\.\.27"):
        next(train_batches(images(), batch))


@pytest.mark.parametrize(("channels", "size"), [(1, 1), (1, 13), (3, 7)])
def test_augment_moves_and_mirrors(channels: int, size: int) -> None:
    x = images(33, channels, size).x_train
    moved = augment(x, Augmentation(2), np.random.default_rng(1))
    assert moved.shape == x.shape and moved.dtype == x.dtype
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for before, after in zip(padded, moved, strict=True):
        crops = [
            before[:, i : i + size, j : j + size][..., ::flip]
            for i in range(5)
            for j in range(5)
            for flip in (1, -1)
        ]
        assert any(np.array_equal(after, crop) for crop in crops)
    assert np.array_equal(augment(x, Augmentation(0, mirror=False), np.random.default_rng(1)), x)


def test_augment_uses_every_offset_and_mirrors_about_half() -> None:
    x = np.arange(1, 5, dtype=np.uint8).reshape(1, 1, 2, 2).repeat(2000, 0)
    moved = augment(x, Augmentation(1), np.random.default_rng(0)).reshape(2000, 4)
    assert len({tuple(row) for row in moved.tolist()}) == 18
    plain = augment(x, Augmentation(0), np.random.default_rng(0)).reshape(2000, 4)
    # Five standard deviations of 2,000 fair coins are 112.
    assert abs(int((plain[:, 0] == 2).sum()) - 1000) < 112


def test_normalize_matches_its_formula() -> None:
    data = images(channels=3)
    mean, std = (np.array(v).reshape(-1, 1, 1) for v in (data.mean, data.std))
    got = normalize(data.x_train, data)
    assert got.dtype == np.float32
    # Three float32 roundings of numbers below 4.
    assert np.allclose(got, (data.x_train.astype(float) / 255 - mean) / std, rtol=0, atol=1e-6)


def test_plain_floats_pass_unchanged() -> None:
    x = np.random.default_rng(0).random((5, 3), np.float32)
    data = Dataset("made", x, np.zeros(5, np.int64), x, np.zeros(5, np.int64))
    assert np.array_equal(normalize(x, data), x)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 13])
def test_accuracy_fills_up_the_last_batch(batch: int) -> None:
    data = images()
    table = {
        x.tobytes(): y for xs, ys in eval_batches(data, 1) for x, y in zip(xs, ys, strict=True)
    }
    wrong = int(data.y_test[0])

    def predict(x: np.ndarray) -> np.ndarray:
        assert len(x) == batch
        labels = [table[row.tobytes()] for row in x]
        return np.eye(99)[[0 if label == wrong else label for label in labels]]

    assert accuracy(predict, data, batch) == 4 / 5


def test_accuracy_needs_labels() -> None:
    x = np.zeros((3, 2), np.float32)
    data = Dataset("made", x, x[:, 0], x, x[:, 0])
    with pytest.raises(DataError, match="no class labels"):
        accuracy(lambda x: x, data, 1)
