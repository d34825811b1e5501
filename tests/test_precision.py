"""Where results of bf16 and f16 are rounded: what leaves a kernel, and casts; not what stays in."""

import pytest
import torch
import torch.nn.functional as F

DTYPES = [torch.bfloat16, torch.float16]


def compiled(f, **options):
    options = {"strict": True, **options}
    return torch.compile(f, backend="ipex", options=options, fullgraph=True, dynamic=False)


def draw(dtype):
    torch.manual_seed(0)
    return [torch.randn(33, 70).to(dtype) for _ in range(3)]


CHAINS = {
    "arithmetic": lambda x, y, z: (x * y + z) * x - y / (z.abs() + 1),
    "functions": lambda x, y, z: torch.sin(x * y) * torch.cos(z) + torch.exp(-x * x).sqrt(),
    "activations": lambda x, y, z: F.silu(x * y) * F.gelu(z + x) + torch.tanh(y),
    "rows": lambda x, y, z: F.layer_norm(x * y + z, (70,), z[0], y[0]) * x + F.softmax(x - y, -1),
    "chosen": lambda x, y, z: torch.where(x > 0, x * y - z, (x + y).clamp(-0.3, 0.4)) * z,
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [name for name in CHAINS if name != "rows"])  # norms are cast
def test_a_chain_is_rounded_once(name, dtype):
    """As near to the exact result as one rounding and arithmetic in f32 allow; eager is not."""
    f, args = CHAINS[name], draw(dtype)
    exact = f(*(t.double() for t in args))
    step = torch.finfo(dtype).eps / 2 * exact.abs() + torch.finfo(dtype).smallest_normal
    near = compiled(f)(*args).double() - exact
    assert (near.abs() <= step * 1.01 + 1e-5).all()
    assert ((f(*args).double() - exact).abs() > step * 1.01 + 1e-5).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_every_operator_rounds_if_asked_to(name, dtype):
    f, args = CHAINS[name], draw(dtype)
    got, want = compiled(f, emulate_precision_casts=True)(*args), f(*args)
    # Eager's functions of f32 differ in the last place of f32, which rarely shows.
    assert (got != want).float().mean() < (0.02 if name in ("rows", "activations") else 0.005)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_stored_is_used_as_it_is_stored(dtype):
    """So that it does not matter which kernel computes what follows."""

    def f(x, y, z):
        product = x * y
        seen = product.view(70, 33)
        return product, product.float() + z.float(), seen.float() * 3

    x, y, z = draw(dtype)
    product, summed, seen = compiled(f)(x, y, z)
    assert torch.equal(product, x * y)
    assert torch.equal(summed, (x * y).float() + z.float())
    assert torch.equal(seen, (x * y).view(70, 33).float() * 3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_changed_in_place_is_used_as_it_is_then(dtype):
    def f(x, y, z):
        x.mul_(y)
        return x.float() + z.float()

    x, y, z = draw(dtype)
    want = (x * y).float() + z.float()
    assert torch.equal(compiled(f)(x, y, z), want)
    assert torch.equal(x, draw(dtype)[0] * y)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_casts_round(dtype):
    def f(x, y):
        return (x * y).to(dtype).float() + y

    x, y = (t.float() for t in draw(torch.float32)[:2])
    assert torch.equal(compiled(f)(x, y), f(x, y))


DECISIONS = {
    "equal": lambda x, y, z: (x * y == (x.float() * y.float()).to(x.dtype)).float() + z,
    "greatest": lambda x, y, z: (x * y == (x * y).amax(-1, keepdim=True)).float().sum(-1),
    "whole": lambda x, y, z: torch.floor(x * y * 8) + torch.round(y * z) + torch.fmod(x * y, 0.5),
    "place": lambda x, y, z: ((x * y).argmax(-1), (y + z).argmin(-1)),
    "integers": lambda x, y, z: (x * y * 100).int() + (y * z).bool(),
    "bits": lambda x, y, z: (x * y).view(torch.int16) & 7,
    "infinite": lambda x, y, z: torch.isinf(x * 3e4 * y) | torch.isnan(y * torch.inf),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_are_made_on_rounded_numbers(name, dtype):
    f, args = DECISIONS[name], draw(dtype)
    if name in ("whole", "integers", "infinite"):  # one operator in front of each decision
        args[0] = args[0].sign()
    if name in ("greatest", "place"):  # products that are equal once they are rounded
        args = [1 + t.abs() / 32 for t in args]
    torch.testing.assert_close(compiled(f)(*args), f(*args), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_backward_sees_what_the_forward_saw(dtype):
    """The saved result of an exponential is its gradient."""
    x, y, _ = draw(dtype)
    x.requires_grad_()
    seen = compiled(lambda x, y: torch.exp(x * y))(x, y)
    seen.backward(torch.ones_like(seen))
    assert torch.equal(x.grad, seen.detach() * y)


def test_an_unknown_type_of_the_option_is_refused():
    with pytest.raises(Exception, match="emulate_precision_casts"):
        compiled(lambda x: x, emulate_precision_casts="yes")(torch.ones(2))
