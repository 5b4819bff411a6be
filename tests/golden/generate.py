#!/usr/bin/env python3
"""Writes the golden files of the tests: what PyTorch's batch normalization layers do on small inputs.

    apt-get install python3-torch        # Debian
    python3 tests/golden/generate.py     # rewrites tests/golden/*.txt

One file per rank and memory format. A file is a sequence of cases, a case a sequence of steps through one layer:

    case NAME
    options channel_axis A channels C epsilon E momentum M|none affine 0|1 track 0|1
    shape D0 D1 ...          extents in memory order, slowest first (RowMajor)
    weight / bias / running_mean / running_var, as set before the first step ("-" where the layer has none)
    step train|eval
    x, dy                    in 32nds, so that they are exact in every scalar type
    y, dx, weight_grad, bias_grad, running_mean, running_var
    batches                  num_batches_tracked
    end

Everything is computed in float64 and printed with 13 digits; gradients of the parameters accumulate over the steps.
The inputs come from Python's own generator with a fixed seed, so that they do not depend on the version of PyTorch.
"""
import os
import random

import torch

LAYERS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
SHAPES = {2: (7, 3), 3: (4, 3, 5), 4: (3, 2, 2, 4), 5: (2, 3, 2, 1, 3)}  # N, C, ...

# name, layer arguments, whether the state before the first step is set to other than its defaults, steps
SCENARIOS = [
    ("train", {}, True, ["train"]),
    ("eval", {}, True, ["eval"]),
    ("train and eval in turn", {}, False, ["train", "train", "eval", "train", "eval"]),
    ("momentum none", {"momentum": None}, False, ["train", "train", "train", "eval"]),
    ("affine off", {"affine": False}, True, ["train", "eval"]),
    ("tracking off", {"track_running_stats": False}, True, ["train", "eval"]),
    ("large epsilon and momentum", {"eps": 0.25, "momentum": 0.75}, True, ["train", "train", "eval"]),
]


def memory_order(tensor, channels_last):
    """The elements as they lie in memory, and the extents, slowest first."""
    if channels_last and tensor.dim() > 2:
        tensor = tensor.movedim(1, -1)
    assert tensor.is_contiguous()
    return tensor.reshape(-1).tolist(), list(tensor.shape)


def with_format(tensor, channels_last):
    if not channels_last or tensor.dim() == 2:
        return tensor.contiguous()
    if tensor.dim() == 3:  # PyTorch has no name for this format, but the strides are the same idea
        return tensor.transpose(1, 2).contiguous().transpose(1, 2)
    return tensor.contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d)


def numbers(values):
    return " ".join("%.13g" % v for v in values) if values is not None else "-"


def vector(tensor):
    return None if tensor is None else tensor.detach().tolist()


def thirty_seconds(rng, count, low, high):
    return [rng.randint(low, high) for _ in range(count)]


def write_case(out, rng, rank, channels_last, name, arguments, set_state, steps):
    shape = SHAPES[rank]
    channels, size = shape[1], torch.Size(shape).numel()
    layer = LAYERS[rank](channels, **arguments).double()
    with torch.no_grad():
        if set_state and layer.affine:
            layer.weight.copy_(torch.tensor(thirty_seconds(rng, channels, -64, 64)) / 32)
            layer.bias.copy_(torch.tensor(thirty_seconds(rng, channels, -64, 64)) / 32)
        if set_state and layer.track_running_stats:
            layer.running_mean.copy_(torch.tensor(thirty_seconds(rng, channels, -64, 64)) / 32)
            layer.running_var.copy_(torch.tensor(thirty_seconds(rng, channels, 8, 128)) / 32)
    print("case", name, file=out)
    print("options channel_axis", -1 if channels_last else 1, "channels", channels, "epsilon", layer.eps, "momentum",
          "none" if layer.momentum is None else layer.momentum, "affine", int(layer.affine), "track",
          int(layer.track_running_stats), file=out)
    print("shape", *memory_order(with_format(torch.zeros(shape), channels_last), channels_last)[1], file=out)
    for key in ("weight", "bias", "running_mean", "running_var"):
        print(key, numbers(vector(getattr(layer, key))), file=out)
    for mode in steps:
        layer.train(mode == "train")
        x32, dy32 = (with_format(torch.tensor(thirty_seconds(rng, size, -99, 99)).reshape(shape), channels_last)
                     for _ in range(2))
        # A channel has an offset of its own, so that a mixed-up channel shows.
        x32 = x32 + 40 * torch.arange(channels).reshape([1, channels] + [1] * (rank - 2))
        x = with_format((x32 / 32).double(), channels_last).requires_grad_()
        dy = with_format((dy32 / 32).double(), channels_last)
        y = layer(x)
        dx, = torch.autograd.grad(y, x, dy, retain_graph=True)
        if layer.affine:
            y.backward(dy)
        print("step", mode, file=out)
        for key, tensor in (("x", x32), ("dy", dy32)):
            print(key, *memory_order(with_format(tensor, channels_last), channels_last)[0], file=out)
        for key, tensor in (("y", y), ("dx", dx)):
            print(key, numbers(memory_order(with_format(tensor.detach(), channels_last), channels_last)[0]), file=out)
        print("weight_grad", numbers(vector(layer.weight.grad) if layer.affine else None), file=out)
        print("bias_grad", numbers(vector(layer.bias.grad) if layer.affine else None), file=out)
        print("running_mean", numbers(vector(layer.running_mean)), file=out)
        print("running_var", numbers(vector(layer.running_var)), file=out)
        print("batches", int(layer.num_batches_tracked) if layer.track_running_stats else 0, file=out)
    print("end", file=out)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    for rank in sorted(SHAPES):
        for channels_last in (False, True):
            if rank == 2 and channels_last:
                continue  # N, C is both
            rng = random.Random(1000 * rank + channels_last)
            name = "rank%d_%s.txt" % (rank, "channels_last" if channels_last else "contiguous")
            with open(os.path.join(here, name), "w") as out:
                print("# made by generate.py with PyTorch", torch.__version__, file=out)
                for scenario in SCENARIOS:
                    write_case(out, rng, rank, channels_last, *scenario)


if __name__ == "__main__":
    main()
