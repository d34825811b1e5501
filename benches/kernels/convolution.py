"""Single f32 convolutions: ipex beside eager (oneDNN), interleaved; results are checked first.

    python benches/kernels/convolution.py [--rounds 31] [FILTER]

Prints the best times (us) of each and their ratio, losses too, and the geometric mean.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

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
    "depthwise 5 7": (1, 960, 7, 960, 5, 1, 960, 1),
    "depthwise 7 56": (1, 96, 56, 96, 7, 1, 96, 1),
    "depthwise 7 14 x8": (8, 384, 14, 384, 7, 1, 384, 1),
}


def case(shape: tuple[int, ...]) -> tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]:
    images, channels, size, outputs, kernel, stride, groups, dilation = shape
    padding = 0 if kernel == stride else dilation * (kernel // 2)
    x = torch.randn(images, channels, size, size)
    w = torch.randn(outputs, channels // groups, kernel, kernel)
    w /= w[0].numel() ** 0.5

    def f(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, w, b, stride, padding, dilation, groups)

    return f, (x, w, torch.randn(outputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("filter", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    ratios = []
    with torch.no_grad():
        for name, shape in SHAPES.items():
            if args.filter not in name:
                continue
            torch._dynamo.reset()
            f, inputs = case(shape)
            compiled = torch.compile(f, backend="ipex", options={"strict": True}, dynamic=False)
            torch.testing.assert_close(compiled(*inputs), f(*inputs), rtol=1e-5, atol=1e-5)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(args.rounds):
                for g, t in zip((f, compiled), times, strict=True):
                    start = time.perf_counter()
                    g(*inputs)
                    t.append((time.perf_counter() - start) * 1e6)
            eager, ipex = (min(t) for t in times)
            ratios.append(eager / ipex)
            print(f"{name:18s} eager {eager:8.1f} us  ipex {ipex:8.1f} us  {ratios[-1]:.2f}")
    print(f"geometric mean eager/ipex {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
