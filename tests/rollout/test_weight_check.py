"""A weight update is checked in full before an engine's model is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from rollout.errors import WeightUpdateError
from rollout.shared_memory import safetensors_files
from rollout.weight_check import ExpectedTensors, check_weights, expected_tensors
from tests.fixtures import save_tiny_llama

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> ExpectedTensors:
    return expected_tensors(AutoConfig.from_pretrained(tiny_model))


def test_a_tied_model_expects_its_head_only_optionally(expected: ExpectedTensors, tmp_path: Path) -> None:
    assert expected.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    untied = save_tiny_llama(tmp_path, tied=False)
    assert expected_tensors(AutoConfig.from_pretrained(untied)).tied == {}


def test_a_saved_checkpoint_passes_whole_or_in_parts(
    expected: ExpectedTensors, tiny_model: Path, tmp_path: Path
) -> None:
    check_weights([str(tiny_model / "model.safetensors")], expected)
    tensors = list(load_file(tiny_model / "model.safetensors").items())
    paths = [str(tmp_path / f"{part}.safetensors") for part in range(2)]
    save_file(dict(tensors[:7]), paths[0])
    save_file(dict(tensors[7:]), paths[1])
    check_weights(paths, expected)


def _without_norm(tensors: Tensors) -> None:
    del tensors["model.norm.weight"]


def _transposed(tensors: Tensors) -> None:
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].T.contiguous()


def _not_a_number(tensors: Tensors) -> None:
    tensors["model.norm.weight"][3] = float("nan")


def _integers(tensors: Tensors) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].long()


def _unknown(tensors: Tensors) -> None:
    tensors["model.norm.bias"] = torch.zeros(64)


def _other_head(tensors: Tensors) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_norm, "1 tensors are missing, the first is model.norm.weight"),
        (_transposed, r"model.embed_tokens.weight has shape \(64, 106\), expected \(106, 64\)"),
        (_not_a_number, "model.norm.weight holds values that are not finite"),
        (_integers, "model.norm.weight has dtype torch.int64, expected floating point"),
        (_unknown, "model.norm.bias is no tensor of this model"),
        (_other_head, "lm_head.weight differs from model.embed_tokens.weight"),
    ],
)
def test_a_bad_update_is_refused_by_name(
    spoil: Callable[[Tensors], None],
    message: str,
    expected: ExpectedTensors,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    tensors = load_file(tiny_model / "model.safetensors")
    spoil(tensors)
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=message):
        check_weights([str(tmp_path / "bad.safetensors")], expected)


def test_a_truncated_file_is_refused(expected: ExpectedTensors, tiny_model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tiny_model / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="unreadable safetensors"):
        check_weights([str(cut)], expected)


def test_bytes_live_in_a_file_only_while_needed() -> None:
    with safetensors_files(b"weights") as (path,):
        assert path.read_bytes() == b"weights"
    assert not path.exists()


def test_given_files_stay(tiny_model: Path) -> None:
    with safetensors_files(tiny_model) as paths:
        assert [path.name for path in paths] == ["model.safetensors"]
    assert (tiny_model / "model.safetensors").exists()
    with (
        pytest.raises(WeightUpdateError, match="no safetensors file at '/nowhere'"),
        safetensors_files("/nowhere"),
    ):
        pass
