"""Indexing by several tensors, bags of embeddings, average pooling: as eager, no call of ATen."""

import pytest
import torch
import torch.nn.functional as F
from against_eager import check, compiled

NAN, INF = float("nan"), float("inf")


def check_error(f, *args):
    """Raises what eager raises."""
    with torch.no_grad():
        with pytest.raises(Exception) as want:
            f(*args)
        with pytest.raises(want.type) as got:
            compiled(f)(*args)
    assert str(got.value) == str(want.value)


def integers(low, high, *sizes, dtype=torch.int64):
    return torch.randint(low, high, sizes, dtype=dtype)


DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "f",
    [
        lambda x, i, j: x[i, j],
        lambda x, i, j: x[:, i, j],
        lambda x, i, j: x[i, :, j],
        lambda x, i, j: x[:, i, :, j],
        lambda x, i, j: x[i[:, None], j],
        lambda x, i, j: x[:, i[:, None, None], j],
        lambda x, i, j: x[i, j, i[:1]],
        lambda x, i, j: x[i, j, i, j],
        lambda x, i, j: x[i.int(), j.int()],
        lambda x, i, j: x[i, 2, j],
        lambda x, i, j: x.transpose(0, 2)[i, j],
        lambda x, i, j: x.flatten(1, 2)[:, i, j],
    ],
)
def test_several_indices(f, dtype, graphs):
    x = (10 * torch.randn(5, 6, 7, 8)).to(dtype)
    check(f, x, integers(-5, 5, 4), integers(-5, 5, 4), graphs=graphs)


def test_computed_indices_of_computed_values(graphs):
    def f(x, i):
        return (x * 2)[:, (i * 2)[:, None], i + 1] + 1

    check(f, torch.randn(3, 9, 9), integers(0, 4, 6), graphs=graphs)


@pytest.mark.parametrize("sizes", [(0,), (3, 0)])
def test_no_index(sizes):
    i = torch.zeros(sizes, dtype=torch.int64)
    check(lambda x, i: x[:, i, i], torch.randn(3, 4, 5), i)


@pytest.mark.parametrize(
    "i, j",
    [([0, 5], [0, 1]), ([0, 1], [0, 6]), ([0, -6], [0, 1]), ([1, 2], [0, -7])],
)
def test_several_indices_out_of_range(i, j):
    check_error(lambda x, i, j: x[i, j], torch.randn(5, 6), torch.tensor(i), torch.tensor(j))
    check_error(lambda x, i, j: x[:, i, j], torch.randn(2, 5, 6), torch.tensor(i), torch.tensor(j))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear"])
@pytest.mark.parametrize("size", [(14, 10), (9, 3), (7, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upsampling(mode, size, dtype, graphs):
    x = torch.randn(2, 3, 7, 5).to(dtype)
    check(lambda x: F.interpolate(x, size, mode=mode), x, graphs=graphs)


@pytest.mark.parametrize("corners", [True, False])
def test_bilinear_upsampling_of_a_computed_image(corners, graphs):
    def f(x):
        return F.interpolate(x.relu(), scale_factor=2, mode="bilinear", align_corners=corners) * 2

    check(f, torch.randn(2, 3, 7, 5), graphs=graphs)


@pytest.mark.parametrize("f", [torch.argmax, torch.argmin])
@pytest.mark.parametrize("special", [None, NAN, INF])
def test_position_in_all_dims(f, special, graphs):
    x = torch.randn(3, 17, 5)
    if special is not None:
        x[1, 3, 2] = x[2, 0, 0] = special
    check(lambda x: (f(x), f(x.bfloat16(), keepdim=True)), x, graphs=graphs)


BAGS = {
    "regular": ([3, 1, 0, 2, 2, 1], [0, 2, 4]),
    "ragged": ([3, 1, 0, 2, 2, 1], [0, 1, 5]),
    "empty_bags": ([3, 1, 0, 2, 2, 1], [0, 0, 4, 4, 6]),
    "nothing": ([], [0, 0]),
    "no_bags": ([], []),
}


@pytest.mark.parametrize("case", BAGS)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("integer", [torch.int32, torch.int64])
@pytest.mark.parametrize("padding", [None, 2, -1])
def test_bags(case, mode, dtype, integer, padding, graphs):
    indices, offsets = (torch.tensor(part, dtype=integer) for part in BAGS[case])

    def f(i, w, o):
        return F.embedding_bag(i, w, o, mode=mode, padding_idx=padding)

    check(f, indices, torch.randn(4, 9).to(dtype), offsets, graphs=graphs)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_a_matrix_and_of_nan(mode, graphs):
    w = torch.randn(50, 16)
    w[3, 4] = w[7, 2] = w[0, 0] = NAN
    w[5, 5] = INF
    check(
        lambda i, w: F.embedding_bag(i, w, mode=mode) * 2, integers(0, 9, 30, 4), w, graphs=graphs
    )


def test_weighted_bags_and_last_offsets(graphs):
    def f(i, w, o, s):
        return F.embedding_bag(
            i, w, o, mode="sum", per_sample_weights=s, include_last_offset=True, padding_idx=1
        )

    offsets = torch.tensor([0, 3, 3, 8])
    check(f, integers(0, 5, 8), torch.randn(5, 3), offsets, torch.randn(8), graphs=graphs)


def test_many_bags_on_several_threads(graphs):
    offsets = torch.arange(0, 40_000, 8)
    w = torch.randn(1000, 32)
    check(
        lambda i, w, o: F.embedding_bag(i, w, o),
        integers(0, 1000, 40_000),
        w,
        offsets,
        graphs=graphs,
    )


@pytest.mark.parametrize(
    "indices, offsets",
    [([0, 4], [0]), ([0, -1], [0]), ([0, 1], [1]), ([0, 1], [0, 3]), ([7, 0], [0, 1])],
)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_wrong_bags_raise_what_eager_raises(indices, offsets, mode):
    def f(i, w, o):
        return F.embedding_bag(i, w, o, mode=mode)

    check_error(f, torch.tensor(indices), torch.randn(4, 3), torch.tensor(offsets))


def test_bags_of_a_table_that_is_transposed():
    f = lambda i, w: F.embedding_bag(i, w.t())  # noqa: E731
    check(f, integers(0, 4, 3, 2), torch.randn(6, 4))


def test_gradients_of_bags():
    i, w = integers(0, 5, 3, 2), torch.randn(5, 4, requires_grad=True)
    (want,) = torch.autograd.grad(F.embedding_bag(i, w).sum(), w)
    (got,) = torch.autograd.grad(compiled(F.embedding_bag)(i, w).sum(), w)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 3, 2),
        lambda x: F.avg_pool2d(x, (3, 2), (1, 2)),
        lambda x: F.avg_pool2d(x, 3, 1, 1),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 2, (1, 0), divisor_override=5),
        lambda x: F.avg_pool2d(x[0], 2),
        lambda x: F.avg_pool2d(x.relu(), 2) * 2,
        lambda x: F.avg_pool2d(x.transpose(2, 3), 2),
        lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ],
)
def test_average_pooling(f, dtype, graphs):
    x = torch.randn(2, 3, 12, 9).to(dtype)
    x[0, 1, 3, 4], x[1, 2, 0, 0] = NAN, INF
    check(f, x, graphs=graphs)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda x: F.avg_pool2d(x.to(memory_format=torch.channels_last), 3, 2, 1),
        lambda x: F.avg_pool2d((10 * x).long(), 2),
        lambda x: F.adaptive_avg_pool2d(x, (5, 4)),
        lambda x: F.avg_pool2d(x, 9),
    ],
)
def test_average_pooling_that_may_be_left_to_eager(f):
    check(f, torch.randn(2, 3, 12, 9))


def test_group_norm(graphs):
    check(lambda x: F.group_norm(x, 4) * 2, torch.randn(2, 8, 6, 6), graphs=graphs)


def test_a_view_that_ends_within_a_joined_dimension(graphs):
    """As the scan of Mamba: three iterations do not split into pairs, but strides express it."""

    def f(a, b):
        return torch.cat([a, b], 1).reshape(4, 5)[:3] * a[0, :5]

    check(f, torch.randn(2, 5), torch.randn(2, 5), graphs=graphs)
