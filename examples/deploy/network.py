"""The network of this example in PyTorch, and its data: three spirals in the plane, told apart."""

import torch


class Network(torch.nn.Module):
    """The parts have the names under which network.hpp loads and saves them."""

    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(2, 64)
        self.bn1 = torch.nn.BatchNorm1d(64)
        self.fc2 = torch.nn.Linear(64, 64)
        self.bn2 = torch.nn.BatchNorm1d(64)
        self.head = torch.nn.Linear(64, 3)

    def forward(self, x):
        x = torch.relu(self.bn1(self.fc1(x)))
        x = torch.relu(self.bn2(self.fc2(x)))
        return self.head(x)


def draw_batch(size):
    """Points and the numbers of their spirals."""
    t = 0.2 + 0.8 * torch.rand(size)
    labels = torch.randint(3, (size,))
    angle = 4 * t + 2.0944 * labels + 0.1 * torch.randn(size)
    return torch.stack((t * torch.cos(angle), t * torch.sin(angle)), dim=1), labels
