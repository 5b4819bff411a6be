"""Trains the network in PyTorch and writes it, with some inputs and outputs, for the C++ side to load.

    python3 train.py network.safetensors

Needs PyTorch and safetensors (Debian from forky on: python3-torch, python3-safetensors).
"""

import sys

import torch
from safetensors.torch import save_file

from network import Network, draw_batch


def main():
    torch.manual_seed(1)
    network = Network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2000):
        x, labels = draw_batch(128)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    network.eval()
    with torch.no_grad():
        x, labels = draw_batch(10000)
        share = (network(x).argmax(dim=1) == labels).double().mean().item()
        state = {"net." + name: value for name, value in network.state_dict().items()}
        save_file({**state, "input": x[:64].contiguous(), "output": network(x[:64])}, sys.argv[1])
    print(f"{sys.argv[1]}: trained in PyTorch {torch.__version__}, {100 * share:.1f} % of new points right")


if __name__ == "__main__":
    main()
