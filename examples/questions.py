"""ResNet-20 for CIFAR-10 as the page of the reviewers' questions compiles it.

quatrain compile examples/questions.py:resnet20 --recipe ultra_low_4bit -o resnet20.qtn
"""

import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.tools import models


def resnet20() -> quatrain.Task:
    """128 images of 32x32, 10 classes."""
    torch.manual_seed(0)
    model = models.resnet20()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    example = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
    return quatrain.Task(model=model, loss=cross_entropy, optimizer=optimizer, example=example)
