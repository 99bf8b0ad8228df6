"""A task for the command line: a small network for the handwritten digits of scikit-learn.

quatrain compile examples/digits.py:digits --recipe ultra_low_4bit -o digits.qtn
quatrain run digits.qtn --data digits --epochs 10
"""

import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.tools.models import digits_cnn


def digits() -> quatrain.Task:
    """The network, its loss, its optimizer and a batch that shows the shapes."""
    torch.manual_seed(0)
    model = digits_cnn()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    example = torch.rand(64, 1, 8, 8), torch.randint(10, (64,))
    return quatrain.Task(model=model, loss=cross_entropy, optimizer=optimizer, example=example)
