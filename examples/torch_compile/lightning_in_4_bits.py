"""Handwritten digits with PyTorch Lightning: a module, its trainer, validation."""

import argparse

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.deep = nn.Linear(64, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.deep(torch.relu(self.stem(x))))
        return self.head(h)


class Digits(pl.LightningModule):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = Net(width)
        self.net.compile(backend="quatrain", options={"recipe": "ultra_low_4bit"})

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        x, y = batch
        self.log("right", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(epochs: int, samples: int, width: int) -> pl.Trainer:
    """Train and evaluate."""
    pl.seed_everything(0)
    digits = load_digits()
    x = torch.tensor(digits.data[:samples], dtype=torch.float32) / 16
    y = torch.tensor(digits.target[:samples])
    train, test = TensorDataset(x[::2], y[::2]), TensorDataset(x[1::2], y[1::2])
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", log_every_n_steps=1)
    loaders = DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=64)
    trainer.fit(Digits(width), *loaders)
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1797)
    parser.add_argument("--width", type=int, default=64)
    main(**vars(parser.parse_args()))
