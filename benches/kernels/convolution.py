"""Single convolutions: ipex beside eager (oneDNN), interleaved; results are checked first.

    python benches/kernels/convolution.py [--rounds 31] [--channels-last] [--kinds] [--freezing]
        [--dtype float32|bfloat16|float16] [--then relu|silu|hardswish|...] [--calls] [FILTER]

Prints the median and best times (us) of each and their ratios, losses too, and geometric means.
With `--calls` also those of ipex where convolutions by oneDNN are ATen's calls with kernels behind.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

# images, channels, size, outputs, kernel, stride, groups, dilation
SHAPES = {
    "resnet stem": (1, 3, 224, 64, 7, 2, 1, 1),
    "resnet 1.1": (1, 64, 56, 64, 1, 1, 1, 1),
    "resnet 1.2": (1, 64, 56, 64, 3, 1, 1, 1),
    "resnet 1.3": (1, 64, 56, 256, 1, 1, 1, 1),
    "resnet 2 down": (1, 256, 56, 512, 1, 2, 1, 1),
    "resnet 2.2 stride": (1, 128, 56, 128, 3, 2, 1, 1),
    "resnet 2.2": (1, 128, 28, 128, 3, 1, 1, 1),
    "resnet 3.2": (1, 256, 14, 256, 3, 1, 1, 1),
    "resnet 3.3": (1, 256, 14, 1024, 1, 1, 1, 1),
    "resnet 4.2": (1, 512, 7, 512, 3, 1, 1, 1),
    "resnet 4.3": (1, 512, 7, 2048, 1, 1, 1, 1),
    "resnet 1.2 x8": (8, 64, 56, 64, 3, 1, 1, 1),
    "resnet 3.2 x8": (8, 256, 14, 256, 3, 1, 1, 1),
    "resnet 4.3 x8": (8, 512, 7, 2048, 1, 1, 1, 1),
    "vgg": (1, 64, 112, 128, 3, 1, 1, 1),
    "patches": (1, 3, 224, 768, 16, 16, 1, 1),
    "patches 4": (1, 3, 224, 96, 4, 4, 1, 1),
    "patches 2": (1, 96, 56, 192, 2, 2, 1, 1),
    "patches 2 late": (1, 384, 14, 768, 2, 2, 1, 1),
    "patches x8": (8, 3, 224, 768, 16, 16, 1, 1),
    "resnext": (1, 128, 56, 128, 3, 1, 32, 1),
    "dilated": (1, 64, 64, 64, 3, 1, 1, 2),
    "mobilenet stem": (1, 3, 224, 16, 3, 2, 1, 1),
    "mobilenet expand": (1, 16, 112, 64, 1, 1, 1, 1),
    "mobilenet project": (1, 64, 56, 24, 1, 1, 1, 1),
    "mobilenet 7": (1, 160, 7, 960, 1, 1, 1, 1),
    "squeeze": (1, 960, 1, 240, 1, 1, 1, 1),
    "depthwise 3 112": (1, 16, 112, 16, 3, 1, 16, 1),
    "depthwise 3s2 112": (1, 64, 112, 64, 3, 2, 64, 1),
    "depthwise 5 28": (1, 120, 28, 120, 5, 1, 120, 1),
    "depthwise 3 14": (1, 672, 14, 672, 3, 1, 672, 1),
    "depthwise 5s2 14": (1, 672, 14, 672, 5, 2, 672, 1),
    "depthwise 5 7": (1, 960, 7, 960, 5, 1, 960, 1),
    "depthwise 7 56": (1, 96, 56, 96, 7, 1, 96, 1),
    "depthwise 7 56 x8": (8, 96, 56, 96, 7, 1, 96, 1),
    "depthwise 7 14 x8": (8, 384, 14, 384, 7, 1, 384, 1),
}

# Other kinds: a layer, and the sizes of its input.
KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "3d 3x3x3 x4": (lambda: nn.Conv3d(64, 64, 3, padding=1), (4, 64, 8, 28, 28)),
    "1d wav2vec": (lambda: nn.Conv1d(512, 512, 3, 2), (1, 512, 3199)),
    "1d wav2vec stem": (lambda: nn.Conv1d(1, 512, 10, 5), (1, 1, 16000)),
    "1d whisper": (lambda: nn.Conv1d(80, 384, 3, padding=1), (1, 80, 3000)),
    "1d whisper 2": (lambda: nn.Conv1d(384, 384, 3, 2, 1), (1, 384, 3000)),
    "1d positions": (lambda: nn.Conv1d(768, 768, 128, padding=64, groups=16), (1, 768, 199)),
    "1d depthwise": (lambda: nn.Conv1d(256, 256, 31, padding=15, groups=256), (1, 256, 400)),
    "1d dilated": (lambda: nn.Conv1d(64, 64, 3, padding=8, dilation=8), (1, 64, 4000)),
    "3d 3x3x3": (lambda: nn.Conv3d(64, 64, 3, padding=1), (1, 64, 8, 28, 28)),
    "3d stem": (lambda: nn.Conv3d(3, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3)), (1, 3, 8, 112, 112)),
    "3d time": (lambda: nn.Conv3d(144, 64, (3, 1, 1), padding=(1, 0, 0)), (1, 144, 8, 28, 28)),
    "3d tubes": (lambda: nn.Conv3d(3, 768, (2, 16, 16), (2, 16, 16)), (1, 3, 8, 224, 224)),
    "transposed 2": (lambda: nn.ConvTranspose2d(128, 64, 2, 2), (1, 128, 56, 56)),
    "transposed 4": (lambda: nn.ConvTranspose2d(256, 128, 4, 2, 1), (1, 256, 14, 14)),
    "transposed 3": (lambda: nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), (1, 64, 56, 56)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(256, 128, 16, 8, 4), (1, 256, 200)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(64, 32, 2, 2), (1, 64, 8, 16, 16)),
    "dilated 4": (lambda: nn.Conv2d(256, 256, 3, padding=4, dilation=4), (1, 256, 28, 28)),
    "dilated 12": (lambda: nn.Conv2d(512, 64, 3, padding=12, dilation=12), (1, 512, 28, 28)),
    "groups 2": (lambda: nn.Conv2d(128, 128, 3, padding=1, groups=2), (1, 128, 28, 28)),
    "groups 32, 7": (lambda: nn.Conv2d(1024, 1024, 3, padding=1, groups=32), (1, 1024, 7, 7)),
    "groups 8, 56 s2": (lambda: nn.Conv2d(192, 192, 3, 2, 1, groups=8), (1, 192, 56, 56)),
    "two of a channel": (lambda: nn.Conv2d(64, 128, 3, padding=1, groups=64), (1, 64, 56, 56)),
}


Inputs = tuple[torch.Tensor, ...]


def layer_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A convolution and its image."""
    if name in KINDS:
        make, sizes = KINDS[name]
        return make(), torch.randn(sizes)
    images, channels, size, outputs, kernel, stride, groups, dilation = SHAPES[name]
    padding = 0 if kernel == stride else dilation * (kernel // 2)
    layer = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups)
    return layer, torch.randn(images, channels, size, size)


def case(name: str, args: argparse.Namespace) -> tuple[nn.Module, Inputs, Inputs]:
    """A convolution, its image, and the result in f64."""
    layer, x = layer_of(name)
    layer, x = (v.to(dtype=getattr(torch, args.dtype)) for v in (layer, x))
    layer.requires_grad_(False)
    if args.channels_last and 4 <= x.dim() <= 5:
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        layer, x = (v.to(memory_format=layout) for v in (layer, x))
    follow = FOLLOW[args.then]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return follow(self.layer(x))

    net = Net()
    want = copy.deepcopy(net).double()(x.double())
    return net, (x,), (want,)


FOLLOW: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nothing": lambda x: x,
    "relu": F.relu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


BOUNDS = {"float32": 1e-5, "bfloat16": 4e-2, "float16": 5e-3}


def of_calls(f: nn.Module, inputs: Inputs, options: dict[str, bool]) -> Callable[..., torch.Tensor]:
    """ipex with convolutions as calls of ATen's, which runs them by oneDNN as ever."""
    # Of other options, so that Dynamo has code for each.
    options = {**options, "strict": False}
    other = torch.compile(f, backend="ipex", options=options, dynamic=False)
    with torch.backends.mkldnn.flags(enabled=False):
        other(*inputs)
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("filter", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--dtype", default="float32", choices=list(BOUNDS))
    parser.add_argument("--kinds", action="store_true", help="1d, 3d, transposed, dilated, grouped")
    parser.add_argument("--freezing", action="store_true")
    parser.add_argument("--then", default="nothing", choices=list(FOLLOW))
    parser.add_argument("--calls", action="store_true", help="also without oneDNN's own steps")
    args = parser.parse_args()
    bound = BOUNDS[args.dtype]
    options = {"strict": True, "freezing": args.freezing}
    ratios: list[tuple[float, float]] = []
    with torch.no_grad():
        for name in KINDS if args.kinds else SHAPES:
            if args.filter not in name:
                continue
            torch._dynamo.reset()
            f, inputs, (want,) = case(name, args)
            compiled = torch.compile(f, backend="ipex", options=options, dynamic=False)
            torch.testing.assert_close(compiled(*inputs).double(), want, rtol=bound, atol=bound)
            ways: list[Callable[..., torch.Tensor]] = [f, compiled]
            if args.calls:
                ways.append(of_calls(f, inputs, options))
            times: list[list[float]] = [[] for _ in ways]
            for _ in range(args.rounds):
                for g, t in zip(ways, times, strict=True):
                    start = time.perf_counter()
                    g(*inputs)
                    t.append((time.perf_counter() - start) * 1e6)
            best, middle = ([of(t) for t in times] for of in (min, statistics.median))
            calls = ""
            if args.calls:
                calls = f"  calls {middle[2]:8.1f} us  {middle[2] / middle[1]:.2f}"
            ratios.append((best[0] / best[1], middle[0] / middle[1]))
            print(
                f"{name:18s} eager {middle[0]:8.1f} us  ipex {middle[1]:8.1f} us  "
                f"{ratios[-1][1]:.2f}  best {best[0]:8.1f} {best[1]:8.1f}  {ratios[-1][0]:.2f}"
                f"{calls}",
                flush=True,
            )
    for name, all_of in zip(("best calls", "medians"), zip(*ratios, strict=True), strict=True):
        print(f"{name}: geometric mean eager/ipex {statistics.geometric_mean(all_of):.2f}")


if __name__ == "__main__":
    main()
