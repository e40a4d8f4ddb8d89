"""The recipes that ship are read, and say what they claim to be."""

from __future__ import annotations

import dataclasses

import pytest

from lfnet.models.config import LFNetConfig
from lfnet.models.lfnet import LFNet
from lfnet.models.weights import describe_weights
from lfnet.training.branches import StrategyConfig
from lfnet.training.config import build_config, default_tables, read_config
from support.commands import REPOSITORY


def test_paper_recipe_has_the_papers_network_and_strategy() -> None:
    config = read_config(REPOSITORY / "configs" / "paper.toml")
    assert config.model == LFNetConfig()
    assert config.strategy == StrategyConfig()
    assert not config.data.photometric.enabled


def test_default_is_the_cpu_recipe_without_its_data() -> None:
    recipe = read_config(REPOSITORY / "configs" / "cpu.toml")
    default = build_config(default_tables())
    data = dataclasses.replace(
        recipe.data,
        sequences=default.data.sequences,
        scenes=default.data.scenes,
        pictures=default.data.pictures,
        picture_share=default.data.picture_share,
        render_share=default.data.render_share,
    )
    assert dataclasses.replace(recipe, data=data, seed=default.seed, card=default.card) == default


def test_the_second_stage_of_lean_keeps_the_detector_of_the_first() -> None:
    first, second = (read_config(REPOSITORY / "configs" / f"{name}.toml") for name in ("lean", "lean_descriptor"))
    assert second.strategy.learns == "descriptor"
    theirs, mine = (LFNet(config.model).state_dict() for config in (first, second))
    assert {name for name in {*theirs, *mine} if name.split(".")[1] != "angles"} <= {*theirs} & {*mine}
    orientation = dataclasses.replace(first.model.orientation, hidden=24, turning="chances")
    assert second.model == dataclasses.replace(
        first.model, orientation=orientation, orientation_preference=1.0, candidates=1.25
    )


@pytest.mark.parametrize(("name", "last_stage"), [("cpu", "cpu"), ("lean", "lean_descriptor")])
def test_shipped_weights_have_the_architecture_and_steps_of_their_recipe(name: str, last_stage: str) -> None:
    recipe = read_config(REPOSITORY / "configs" / f"{last_stage}.toml")
    assert LFNet.from_pretrained(f"lfnet-{name}").config == recipe.model
    card = describe_weights(f"lfnet-{name}")["card"]
    assert card["licence"] == "Apache-2.0"
    assert card["steps"] == recipe.optimizer.steps


def test_the_second_stage_of_lean_began_where_the_first_ended() -> None:
    first = read_config(REPOSITORY / "configs" / "lean.toml")
    begun = describe_weights("lfnet-lean")["card"]["begun_from"]
    assert begun == {"name": "lfnet-lean", "steps": first.optimizer.steps}
