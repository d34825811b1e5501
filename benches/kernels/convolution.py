"""Single convolutions: ipex beside eager (oneDNN), interleaved; results are checked first.

    python benches/kernels/convolution.py [--rounds 31] [--channels-last] [--dtype float32|bfloat16]
        [--freezing] [--then nothing|relu|silu] [FILTER]

Prints the median and best times (us) of each and their ratios, losses too, and geometric means.
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
    "depthwise 7 14 x8": (8, 384, 14, 384, 7, 1, 384, 1),
}


Inputs = tuple[torch.Tensor, ...]


def case(shape: tuple[int, ...], args: argparse.Namespace) -> tuple[nn.Module, Inputs, Inputs]:
    """A convolution, its image, and the same in f64 with the result."""
    images, channels, size, outputs, kernel, stride, groups, dilation = shape
    padding = 0 if kernel == stride else dilation * (kernel // 2)
    layer = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups).requires_grad_(
        False
    )
    x = torch.randn(images, channels, size, size)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    dtype = getattr(torch, args.dtype)
    layer = layer.to(dtype=dtype, memory_format=layout)
    x = x.to(dtype=dtype, memory_format=layout)
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
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("filter", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--freezing", action="store_true")
    parser.add_argument("--then", default="nothing", choices=list(FOLLOW))
    args = parser.parse_args()
    bound = 4e-2 if args.dtype == "bfloat16" else 1e-5
    options = {"strict": True, "freezing": args.freezing}
    ratios: list[tuple[float, float]] = []
    with torch.no_grad():
        for name, shape in SHAPES.items():
            if args.filter not in name:
                continue
            torch._dynamo.reset()
            f, inputs, (want,) = case(shape, args)
            compiled = torch.compile(f, backend="ipex", options=options, dynamic=False)
            torch.testing.assert_close(compiled(*inputs).double(), want, rtol=bound, atol=bound)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(args.rounds):
                for g, t in zip((f, compiled), times, strict=True):
                    start = time.perf_counter()
                    g(*inputs)
                    t.append((time.perf_counter() - start) * 1e6)
            best, middle = ([of(t) for t in times] for of in (min, statistics.median))
            ratios.append((best[0] / best[1], middle[0] / middle[1]))
            print(
                f"{name:18s} eager {middle[0]:8.1f} us  ipex {middle[1]:8.1f} us  "
                f"{ratios[-1][1]:.2f}  best {best[0]:8.1f} {best[1]:8.1f}  {ratios[-1][0]:.2f}",
                flush=True,
            )
    for name, all_of in zip(("best calls", "medians"), zip(*ratios, strict=True), strict=True):
        print(f"{name}: geometric mean eager/ipex {statistics.geometric_mean(all_of):.2f}")


if __name__ == "__main__":
    main()
