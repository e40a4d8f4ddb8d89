"""Configurations: every one comes back from its tables, and a file of anything is read or refused in one line."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lfnet.settings import ConfigError, config_from_dict, config_to_dict
from lfnet.training.config import OptimizerConfig, TrainConfig, read_config
from support.refusals import complaint

optimizers = st.builds(
    OptimizerConfig,
    steps=st.integers(1, 10**6),
    batch=st.integers(1, 64),
    learning_rate=st.floats(0, 1),
    schedule=st.sampled_from(["constant", "cosine"]),
    warmup=st.integers(0, 10**4),
    precision=st.sampled_from(["float32", "bfloat16"]),
)


@given(st.builds(TrainConfig, optimizer=optimizers, seed=st.integers(0, 2**31)))
def test_every_configuration_comes_back_from_its_tables(config: TrainConfig) -> None:
    assert config_from_dict(TrainConfig, config_to_dict(config)) == config


values = st.one_of(
    st.integers(-2, 10**6).map(str), st.sampled_from(["true", "nan", "-inf", "1e400", "[]", "[1, 2]", '"cosine"', "{}"])
)
names = st.sampled_from(["steps", "batch", "learning_rate", "schedule", "warmup", "seed", "octaves", "mode", "x.y"])
tables = st.sampled_from(["[optimizer]", "[model]", "[model.orientation]", "[strategy]", "[data]", "[none]", "[[data]"])
lines = st.lists(st.one_of(tables, st.tuples(names, values).map(" = ".join), st.text(max_size=5)), max_size=6)


@given(lines.map("\n".join))
def test_a_file_of_anything_is_read_or_refused_in_one_line(content: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(content, encoding="utf-8")
        said = complaint(ConfigError, read_config, path)
    assert said is None or len(said) > 10
