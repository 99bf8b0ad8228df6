"""Handwritten digits in plain PyTorch: a loop, a schedule, a checkpoint of each epoch."""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.deep = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.stem(x)))
        h = torch.relu(self.deep(h))
        return self.head(self.drop(h.mean((2, 3))))


def data(samples: int) -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Digits to train with, and others."""
    digits = load_digits()
    x = torch.tensor(digits.images[:samples], dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target[:samples])
    train, test = random_split(TensorDataset(x, y), [0.8, 0.2])
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=64)


def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    """The share that is told right."""
    model.eval()
    with torch.no_grad():
        right = [model(x).argmax(1) == y for x, y in loader]
    return torch.cat(right).float().mean().item()


def main(epochs: int, samples: int, width: int, checkpoint: Path) -> float:
    """Train and evaluate."""
    torch.manual_seed(0)
    model = Net(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    train, test = data(samples)
    for epoch in range(epochs):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {accuracy(model, test):.1%} right")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "schedule": schedule.state_dict()}, checkpoint)
    return accuracy(model, test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1797)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--checkpoint", type=Path, default=Path("digits.pt"))
    main(**vars(parser.parse_args()))
