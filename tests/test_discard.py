"""Frozen parameters of which only the packed form stays in memory."""

import copy
import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

SIDE = 1536  # 9 MiB a weight


class Layers(nn.Module):
    """Weights that are packed, one of them joined, and an embedding, which is read as it is."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(1000, SIDE)
        self.gate, self.up, self.down = (nn.Linear(SIDE, SIDE) for _ in range(3))

    def forward(self, x):
        x = self.table(x)
        return self.down(torch.relu(self.gate(x)) * self.up(x))


def resident():
    """Bytes of this process's memory that no file backs."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def compiled(model, **options):
    options = {"strict": True, "freezing": "discard", **options}
    return torch.compile(model, backend="ipex", options=options)


@pytest.fixture
def discarded(graphs):
    """A model after its first call, what it was before, and its compiled form."""
    model = Layers().eval()
    before = copy.deepcopy(model)
    f = compiled(model)
    with torch.no_grad():
        f(torch.randint(0, 1000, (2, 40)))
    weights = 3 * SIDE * SIDE * 4
    assert graphs[0].freed_bytes == weights and graphs[0].packed_bytes >= weights
    return model, before, f


def test_results_stay_and_parameters_can_be_read(discarded):
    model, before, f = discarded
    x = torch.randint(0, 1000, (2, 40))
    with torch.no_grad():
        want = before(x)
        for _ in range(2):
            torch.testing.assert_close(f(x), want)
        torch.testing.assert_close(model(x), want)
    for (name, got), (_, want) in zip(
        model.state_dict().items(), before.state_dict().items(), strict=True
    ):
        assert torch.equal(got, want) and got.stride() == want.stride(), name
    assert repr(model.up.weight) == repr(before.up.weight)


def test_memory_goes_down():
    model = Layers().eval()
    weights = 3 * SIDE * SIDE * 4
    x = torch.randint(0, 1000, (2, 40))
    used = {}
    for freezing in (True, "discard"):
        torch._dynamo.reset()
        kept = copy.deepcopy(model)
        f = compiled(kept, freezing=freezing)
        start = resident()
        with torch.no_grad():
            f(x)
            f(x)
        used[freezing] = resident() - start
    assert used["discard"] < used[True] - 0.8 * weights, used


def test_other_sizes_compile(discarded, graphs):
    model, before, f = discarded
    with torch.no_grad():
        for sizes in ((2, 41), (3, 7), (1, 1)):
            x = torch.randint(0, 1000, sizes)
            torch.testing.assert_close(f(x), before(x))


def test_no_recompile_for_the_same_size():
    model, x = Layers().eval(), torch.randint(0, 1000, (2, 40))
    f = compiled(model)
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3):
            f(x)


def test_saved_copied_and_changed(discarded):
    model, before, _ = discarded
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    for got, want in zip(torch.load(file).values(), before.state_dict().values(), strict=True):
        assert torch.equal(got, want)
    with torch.no_grad():
        model.up.weight.mul_(2)
        assert torch.equal(model.up.weight, before.up.weight * 2)
        assert torch.equal(copy.deepcopy(model).down.weight, before.down.weight)


def test_training_goes_on(discarded):
    model, before, f = discarded
    x = torch.randint(0, 1000, (2, 5))
    grads = []
    for m, g in ((model, f), (before, before)):
        g(x).square().mean().backward()
        grads.append(m.up.weight.grad)
    torch.testing.assert_close(*grads)


def test_memory_that_others_show_stays(graphs):
    model = Layers().eval()
    view, tied = model.gate.weight.detach(), model.up.weight
    f = compiled(model)
    with torch.no_grad():
        f(torch.randint(0, 1000, (2, 40)))
    assert graphs[0].freed_bytes == 2 * SIDE * SIDE * 4
    assert model.up.weight is tied
    with torch.no_grad():
        view.zero_()
    assert not model.gate.weight.any()


def test_without_room_they_stay(graphs, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nowhere")
    model, x = Layers().eval(), torch.randint(0, 1000, (2, 40))
    with torch.no_grad(), pytest.warns(UserWarning, match="keeps parameters in memory"):
        got = compiled(model)(x)
    torch.testing.assert_close(got, model(x))
    assert graphs[0].freed_bytes == 0


def test_calls_from_several_threads(graphs):
    model, x = Layers().eval(), torch.randint(0, 1000, (2, 40))
    f, want = compiled(model), model(x).detach()
    # Dynamo traces once, here; the threads' size gets its plan in them.
    few = torch.randint(0, 1000, (2, 3))
    torch._dynamo.mark_dynamic(few, 1)

    def call():
        with torch.no_grad():
            for _ in range(10):
                torch.testing.assert_close(f(x), want, rtol=1e-4, atol=1e-5)

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        f(few)
        with ThreadPoolExecutor(3) as threads:
            for done in [threads.submit(call) for _ in range(3)]:
                done.result()
        f(x)
    (graph,) = graphs
    assert graph.freed_bytes == 3 * SIDE * SIDE * 4


def test_other_values_are_refused():
    with pytest.raises(Exception, match="must be bool"):
        compiled(nn.Linear(2, 2), freezing="drop")(torch.ones(2))
