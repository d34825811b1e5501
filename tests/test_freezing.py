"""Parameters and buffers that are said never to change."""

import pytest
import torch
from torch import nn

torch.manual_seed(0)


class Scaled(nn.Module):
    """What follows from the parameter alone is a kernel of its own."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(16, 16))

    def forward(self, x):
        return x @ self.w.exp()


class Counter(nn.Module):
    """A buffer that each call changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.ones(16, 16))

    def forward(self, x):
        product = x @ (self.count * 2)
        self.count.add_(1)
        return product


def compiled(model, **options):
    return torch.compile(model, backend="ipex", options={"strict": True, **options})


@pytest.mark.parametrize("freezing", [True, False])
def test_what_follows_from_parameters_is_computed_once(freezing):
    model, x = Scaled(), torch.randn(8, 16)
    f = compiled(model, freezing=freezing)
    with torch.no_grad():
        first = model(x)
        torch.testing.assert_close(f(x), first)
        model.w.data.add_(1)
        # An edit is not seen if the parameters are frozen, as documented.
        torch.testing.assert_close(f(x), first if freezing else model(x))


def test_buffers_that_the_model_changes_are_not_frozen():
    eager, model, x = Counter(), Counter(), torch.randn(8, 16)
    f = compiled(model, freezing=True)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(f(x), eager(x))
    torch.testing.assert_close(model.count, eager.count)


def test_weights_of_autocast():
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64)).eval()
    x = torch.randn(20, 64)
    f = compiled(model, freezing=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        want = model(x)
        for _ in range(2):
            torch.testing.assert_close(f(x), want, rtol=2e-2, atol=1e-2)


def test_batch_norm():
    model = nn.Sequential(nn.Conv2d(3, 20, 3), nn.BatchNorm2d(20), nn.ReLU()).eval()
    nn.init.normal_(model[1].running_mean)
    nn.init.uniform_(model[1].running_var, 0.5, 2)
    x = torch.randn(2, 3, 9, 9)
    f = compiled(model, freezing=True)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(f(x), model(x))


class Many(nn.Module):
    """A packed layer, a convolution whose filters are transformed, factors of a batch norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.linear = nn.Linear(64, 96)

    def forward(self, x):
        y = self.norm(self.conv(x)).relu()
        return self.linear(y.flatten(2).transpose(1, 2)).relu()


@pytest.mark.parametrize("autocast", [False, True])
def test_plans_of_several_sizes_share_what_is_packed(autocast, graphs):
    model = Many().eval()
    f = torch.compile(
        model, backend="ipex", dynamic=True, options={"strict": True, "freezing": True}
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        bytes_of = []
        for size in (24, 28, 24, 32, 40, 56):
            x = torch.randn(2, 32, size, size)
            torch.testing.assert_close(f(x), model(x), **CLOSE[autocast])
            bytes_of.append(graphs[-1].packed_bytes)
    assert len(graphs) == 1
    weights = model.linear.weight.numel() * (2 if autocast else 4)
    assert weights <= bytes_of[0]
    assert bytes_of == [bytes_of[0]] * len(bytes_of)


CLOSE = {False: {}, True: {"rtol": 2e-2, "atol": 2e-2}}
