"""The moving average against its formula, swapped in and out, saved; the mean of checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from auricle.errors import CheckpointError
from auricle.training.averaging import Ema, average


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[2].bias.requires_grad_(False)
    return model


def change(model: nn.Module) -> None:
    """What a step does: other weights, and BatchNorm has seen a batch."""
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p))
        model.train()(3 * torch.randn(8, 4) + 1)


def test_the_average_is_the_formula_with_its_warm_start() -> None:
    model = net()
    ema = Ema(model, 0.5)
    expected = {n: t.clone().double() for n, t in model.state_dict().items()}
    for step in range(1, 30):
        change(model)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
    state = ema.state_dict()
    assert set(state) == {n for n in expected if n not in ("2.bias", "1.num_batches_tracked")}
    for name, tensor in state.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(state["1.running_mean"], model[1].running_mean)


def test_the_first_step_forgets_most_of_the_beginning() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, 0.9999)
    nn.init.ones_(model.weight)
    ema.update(1)
    assert ema.state_dict()["weight"].item() == pytest.approx(9 / 11)


def test_half_precision_weights_are_averaged_in_float32() -> None:
    model = nn.Linear(8, 8).bfloat16()
    ema = Ema(model, 0.99)
    for step in range(1000, 1010):
        with torch.no_grad():
            model.weight.mul_(1.01)
        ema.update(step)
    state = ema.state_dict()
    assert state["weight"].dtype == torch.float32
    assert not torch.equal(state["weight"], state["weight"].bfloat16().float())
    with ema.in_place():
        assert torch.equal(model.weight, state["weight"].bfloat16())


def test_in_place_gives_the_average_and_takes_it_back_also_after_an_error() -> None:
    model = net()
    ema = Ema(model, 0.9)
    change(model)
    ema.update(100)
    before, mean = copy.deepcopy(model.state_dict()), copy.deepcopy(ema.state_dict())
    pointers = [p.data_ptr() for p in model.parameters()]
    with pytest.raises(KeyError), ema.in_place(model):
        inside = model.state_dict()
        assert all(torch.equal(inside[name], tensor) for name, tensor in mean.items())
        assert torch.equal(inside["2.bias"], before["2.bias"])
        raise KeyError
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(torch.equal(t, mean[name]) for name, t in ema.state_dict().items())
    assert pointers == [p.data_ptr() for p in model.parameters()]  # optimisers hold these tensors


def test_in_place_of_a_copy_leaves_the_model_alone() -> None:
    model = net()
    ema = Ema(model, 0.9)
    change(model)
    twin = copy.deepcopy(model)
    with ema.in_place(twin):
        assert not torch.equal(twin[0].weight, model[0].weight)


def test_a_resumed_average_is_the_uninterrupted_one(tmp_path: Path) -> None:
    model = net()
    ema = Ema(model, 0.99)

    def steps(model: nn.Module, ema: Ema, begin: int, end: int) -> dict[str, Tensor]:
        for step in range(begin, end):
            torch.manual_seed(step)
            change(model)
            ema.update(step)
        return ema.state_dict()

    steps(model, ema, 1, 20)
    save_file(ema.state_dict(), tmp_path / "ema.safetensors")
    twin = copy.deepcopy(model)
    expected = steps(model, ema, 20, 40)
    again = Ema(twin, 0.99)
    again.load_state_dict(average([tmp_path / "ema.safetensors"]))
    resumed = steps(twin, again, 20, 40)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.items())


def test_another_models_average_is_refused() -> None:
    ema = Ema(nn.Linear(2, 2), 0.9)
    with pytest.raises(CheckpointError, match="the saved average of the weights lacks bias"):
        ema.load_state_dict({"weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r"weight has the shape \[1, 2\], not \[2, 2\]"):
        ema.load_state_dict({"weight": torch.zeros(1, 2), "bias": torch.zeros(2)})


def test_the_mean_of_checkpoints(tmp_path: Path) -> None:
    states = []
    for seed in range(3):
        model = net(seed)
        for _ in range(seed + 1):
            change(model)
        states.append(copy.deepcopy(model.state_dict()))
    folder = tmp_path / "one"
    folder.mkdir()
    save_file(states[0], folder / "model.safetensors")
    mean = average([folder, states[1], states[2]])
    assert list(mean) == list(states[2])
    assert mean["1.num_batches_tracked"].item() == 3  # of the last, not 2
    for name in ("0.weight", "1.running_var", "2.bias"):
        expected = torch.stack([state[name] for state in states]).mean(0)
        torch.testing.assert_close(mean[name], expected, rtol=1e-6, atol=1e-7)
        assert mean[name].dtype == torch.float32
    alone = average([states[1]])
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in alone.items())
    assert alone["0.weight"].data_ptr() != states[1]["0.weight"].data_ptr()


def test_checkpoints_of_different_models_have_no_mean(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="checkpoint number 1 has an unknown bias"):
        average([nn.Linear(2, 2).state_dict(), nn.Linear(2, 2, bias=False).state_dict()])
    with pytest.raises(CheckpointError, match=r"model.safetensors is missing"):
        average([tmp_path])
