#!/usr/bin/env python3
"""Writes the golden files of the tests: what PyTorch's batch normalization layers do on small inputs.

    apt-get install python3-torch        # Debian
    python3 tests/golden/generate.py              # rewrites tests/golden/*.txt
    python3 tests/golden/generate.py fused_rank4  # those alone whose names begin so

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

The files whose names begin with fused_ have y = activation(bn(x) + residual) instead, through the same lines but for

    options channel_axis A channels C slope S residual 0|1
    step train|eval
    x, residual, dy          in 32nds ("-" where there is no residual)
    y, dx, residual_grad, weight_grad, bias_grad, running_mean, running_var

where slope is the activation's below 0: 1 for none, 0 for relu. What the activation is given is 0, exactly, or so far from
0 that no rounding in float moves it to the other side: inputs of which this is not true are drawn again. (In float PyTorch
itself is off by some 1e-6, which is as much as the library may be: only its float64 can tell.)

Everything is computed in float64 and printed with 13 digits; gradients of the parameters accumulate over the steps.
The inputs come from Python's own generator with a fixed seed, so that they do not depend on the version of PyTorch.
"""
import os
import random
import sys

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

FUSED_SHAPES = {2: (9, 3), 4: (3, 3, 2, 4)}

# name, slope, whether there is a residual, whether a channel has weight 0 and bias 0
FUSED_SCENARIOS = [
    ("relu", 0, False, False),
    ("relu and a channel of zeros", 0, False, True),
    ("relu and residual", 0, True, False),
    ("leaky relu", 0.125, False, True),
    ("leaky relu and residual", 0.125, True, False),
    ("residual alone", 1, True, False),
]
NEAREST_TO_0 = 1e-3  # where it is not 0; float is off by some 1e-6


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


def write_fused_case(out, rng, rank, channels_last, name, slope, has_residual, has_zeros):
    shape = FUSED_SHAPES[rank]
    channels, size = shape[1], torch.Size(shape).numel()
    layer = LAYERS[rank](channels).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(thirty_seconds(rng, channels, -64, 64)) / 32)
        layer.bias.copy_(torch.tensor(thirty_seconds(rng, channels, -32, 32)) / 32)
        layer.running_mean.copy_(torch.tensor(thirty_seconds(rng, channels, -64, 64)) / 32)
        layer.running_var.copy_(torch.tensor(thirty_seconds(rng, channels, 8, 128)) / 32)
        if has_zeros:
            layer.weight[1] = layer.bias[1] = 0
    print("case", name, file=out)
    print("options channel_axis", -1 if channels_last else 1, "channels", channels, "slope", slope, "residual",
          int(has_residual), file=out)
    print("shape", *memory_order(with_format(torch.zeros(shape), channels_last), channels_last)[1], file=out)
    for key in ("weight", "bias", "running_mean", "running_var"):
        print(key, numbers(vector(getattr(layer, key))), file=out)

    def draw():
        return with_format(torch.tensor(thirty_seconds(rng, size, -99, 99)).reshape(shape), channels_last)

    for mode in ("train", "eval"):
        layer.train(mode == "train")
        before = {key: value.clone() for key, value in layer.state_dict().items()}
        while True:
            layer.load_state_dict(before)
            x32, r32, dy32 = draw(), draw(), draw()
            x, r = ((v / 32).double().requires_grad_() for v in (x32, r32))
            z = layer(x) + r if has_residual else layer(x)
            if not ((z != 0) & (z.abs() < NEAREST_TO_0)).any():
                break
        dy = (dy32 / 32).double()
        y = torch.nn.functional.leaky_relu(z, slope) if slope not in (0, 1) else torch.relu(z) if slope == 0 else z
        y.backward(dy)
        print("step", mode, file=out)
        for key, tensor in (("x", x32), ("residual", r32 if has_residual else None), ("dy", dy32)):
            print(key, *(memory_order(tensor, channels_last)[0] if tensor is not None else "-"), file=out)
        for key, tensor in (("y", y.detach()), ("dx", x.grad), ("residual_grad", r.grad)):
            values = None if tensor is None else memory_order(with_format(tensor, channels_last), channels_last)[0]
            print(key, numbers(values), file=out)
        for key in ("weight", "bias"):
            print(key + "_grad", numbers(vector(getattr(layer, key).grad)), file=out)
        for key in ("running_mean", "running_var"):
            print(key, numbers(vector(getattr(layer, key))), file=out)
    print("end", file=out)


def write_file(name, rng, write, scenarios, *arguments):
    if not name.startswith(tuple(sys.argv[1:]) or ""):
        return
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".txt"), "w") as out:
        print("# made by generate.py with PyTorch", torch.__version__, file=out)
        for scenario in scenarios:
            write(out, rng, *arguments, *scenario)


def main():
    for prefix, shapes, write, scenarios in (
        ("", SHAPES, write_case, SCENARIOS),
        ("fused_", FUSED_SHAPES, write_fused_case, FUSED_SCENARIOS),
    ):
        for rank in sorted(shapes):
            for channels_last in (False, True):
                if rank == 2 and channels_last:
                    continue  # N, C is both
                rng = random.Random(1000 * rank + channels_last)
                name = "%srank%d_%s" % (prefix, rank, "channels_last" if channels_last else "contiguous")
                write_file(name, rng, write, scenarios, rank, channels_last)


if __name__ == "__main__":
    main()
