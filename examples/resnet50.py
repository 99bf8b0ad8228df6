"""ResNet-50 at batch 256 on images of 224x224: what a GPU's published peaks say of a step.

quatrain bench examples/resnet50.py:resnet50 --predict --target cuda:sm_90
"""

import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.tools import models

BATCH, CLASSES = 256, 1000


def resnet50() -> quatrain.Task:
    """The network, its loss, its optimizer and a batch that shows the shapes."""
    model = models.resnet50(CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    example = torch.zeros(BATCH, 3, 224, 224), torch.zeros(BATCH, dtype=torch.int64)
    return quatrain.Task(model=model, loss=cross_entropy, optimizer=optimizer, example=example)
