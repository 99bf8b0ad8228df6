"""A small BERT that tells sorted sequences from others, by Hugging Face's Trainer."""

import argparse

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

LENGTH, WORDS = 12, 50


class Sequences(Dataset[dict[str, Tensor]]):
    def __init__(self, samples: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.words = torch.randint(WORDS, (samples, LENGTH), generator=draw)
        self.labels = torch.randint(2, (samples,), generator=draw)
        self.words[self.labels == 1] = self.words[self.labels == 1].sort(dim=1).values

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        mask = torch.ones(LENGTH, dtype=torch.long)
        return {"input_ids": self.words[i], "attention_mask": mask, "labels": self.labels[i]}


def main(epochs: float, samples: int, width: int, layers: int, folder: str) -> Trainer:
    """Train and evaluate."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=LENGTH,
    )
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        learning_rate=1e-3,
        eval_strategy="epoch",
        use_cpu=True,
        report_to="none",
    )
    train, test = Sequences(samples, 0), Sequences(samples // 4, 1)
    trainer = Trainer(model, arguments, train_dataset=train, eval_dataset=test)
    trainer.train()
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--folder", default="sequences")
    main(**vars(parser.parse_args()))
