"""Batch norm over processes: alone it is PyTorch's, and two halves of a batch see what the whole sees."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lfnet.distributed.batch_norm import freeze, statistics, synchronise
from lfnet.distributed.processes import ALONE, Processes
from lfnet.models.lfnet import LFNet
from support.networks import chances_config
from support.tensors import seeded


@dataclasses.dataclass(frozen=True)
class WithOthers(Processes):
    """A process whose others are played: what they add to each sum, in the order of the sums."""

    others: Any = None

    def total(self, values: Tensor) -> Tensor:
        return values + next(self.others)


def outputs_and_gradients(norm: nn.Module, inputs: Tensor) -> list[Tensor]:
    inputs = inputs.clone().requires_grad_()
    network = nn.Sequential(norm)
    outputs = network(inputs)
    (outputs.tanh() * torch.linspace(0, 1, outputs.shape[1]).view(1, -1, 1, 1)).sum().backward()
    inside = network[0]
    values = [outputs, inputs.grad, inside.weight.grad, inside.bias.grad, *statistics(network)]
    return [each.detach().clone() for each in values if each is not None]


@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_the_batch_norm_of_pytorch(training: bool) -> None:
    inputs = 3 + 2 * torch.randn(2, 4, 5, 6, generator=seeded())
    expected = outputs_and_gradients(nn.BatchNorm2d(4, momentum=0.3).train(training), inputs)
    network = nn.Sequential(nn.BatchNorm2d(4, momentum=0.3).train(training))
    synchronise(network, ALONE)
    assert type(network[0]) is not nn.BatchNorm2d
    for mine, theirs in zip(outputs_and_gradients(network[0], inputs), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_a_part_is_normalised_by_the_sums_of_all() -> None:
    """The other process has three of four rows; its sums are played, so the part must come out as in the whole."""
    whole = torch.randn(4, 3, generator=seeded()) * 2 + 1
    mine, theirs = whole[:1], whole[1:]
    mean = whole.mean(0)
    sums = [torch.cat((theirs.sum(0), torch.tensor([3.0]))), (theirs - mean).square().sum(0)]
    network = nn.Sequential(nn.BatchNorm1d(3))
    synchronise(network, WithOthers(count=2, others=iter(sums)))
    expected = nn.BatchNorm1d(3)
    torch.testing.assert_close(network(mine), expected(whole)[:1])
    for found, wanted in zip(statistics(network), statistics(expected), strict=True):
        torch.testing.assert_close(found, wanted)


def test_every_batch_norm_of_a_network_is_taken_and_its_state_stays() -> None:
    model = LFNet(chances_config()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [id(parameter) for parameter in model.parameters()]
    synchronise(model, ALONE)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert [name for name, module in model.named_modules() if type(module) in kinds] == []
    assert [id(parameter) for parameter in model.parameters()] == parameters
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_frozen_statistics_stay_until_training_is_set_again() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    inputs = torch.randn(2, 1, 6, 6, generator=seeded())
    freeze(network)
    before = [each.clone() for each in statistics(network)]
    network(inputs).sum().backward()
    assert all(torch.equal(each, old) for each, old in zip(statistics(network), before, strict=True))
    assert network[0].weight.grad is not None
    network.train()
    network(inputs)
    assert not torch.equal(statistics(network)[0], before[0])
