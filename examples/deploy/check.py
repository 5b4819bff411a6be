"""Loads into PyTorch a network that was trained in C++, and compares its outputs with those of C++.

    python3 check.py ours.safetensors
"""

import sys

import torch
from safetensors.torch import load_file

from network import Network, draw_batch


def main():
    state = load_file(sys.argv[1])
    network = Network().eval()
    network.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("net.")}, strict=True)
    torch.manual_seed(1)
    with torch.no_grad():
        y, expected = network(state["input"]), state["output"]
        difference = ((y - expected).abs().max() / expected.abs().max()).item()
        x, labels = draw_batch(10000)
        share = (network(x).argmax(dim=1) == labels).double().mean().item()
    print(f"{sys.argv[1]}: loaded in PyTorch {torch.__version__}, {100 * share:.1f} % of new points right")
    print(f"largest difference from the outputs in C++, relative: {difference:.1e}")
    sys.exit(0 if difference < 1e-5 else 1)


if __name__ == "__main__":
    main()
