"""Negative log likelihood of batches, against eager."""

import pytest
import torch
import torch.nn.functional as F

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}


def compiled(f):
    torch._dynamo.reset()
    return torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True, dynamic=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_and_their_weights(dtype, reduction, weighted):
    torch.manual_seed(0)
    scores, target = torch.randn(9, 40).to(dtype), torch.randint(40, (9,))
    target[2], target[5] = -100, 39
    weight = torch.rand(40).to(dtype) if weighted else None

    def f(x, t, w):
        return torch.ops.aten.nll_loss_forward(x, t, w, REDUCTIONS[reduction], -100)

    for got, want in zip(
        compiled(f)(scores, target, weight), f(scores, target, weight), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_of_nothing_but_ignored_targets():
    scores, target = torch.randn(3, 5), torch.full((3,), -100)
    assert compiled(F.cross_entropy)(scores, target).isnan()


def test_a_target_that_is_no_class_is_eagers_error():
    scores, target = torch.randn(3, 5), torch.tensor([1, 7, 2])
    for f in F.cross_entropy, compiled(F.cross_entropy):
        with pytest.raises(IndexError, match="Target 7 is out of bounds"):
            f(scores, target)
