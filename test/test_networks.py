"""Networks: shapes, export, weights on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from safetensors.torch import save_file

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError, OptionError
from dseg_core.networks.build import build_network
from dseg_core.networks.checkpoint import RunDescription, load_network, read_tensors, save_network, write_tensors
from dseg_core.networks.ema import MovingAverage
from dseg_core.networks.segmenter import MaskTransformer
from dseg_core.stage_options import NetworkOptions, TrainOptions

SMALL = NetworkOptions(height=64, width=96, channels=8)
TINY_VIT = NetworkOptions("segmenter", 64, 96, backbone="vit_tiny_patch16_224")
NETWORKS = {
    "small": SMALL,
    "small_odd": dataclasses.replace(SMALL, height=52, width=116),
    "mask": TINY_VIT,
    "mask_two_layers": dataclasses.replace(TINY_VIT, head_layers=2),
    "linear": dataclasses.replace(TINY_VIT, head="linear"),
    "segmenter_odd": dataclasses.replace(TINY_VIT, height=52, width=116),
}


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())
def test_logits_at_stride_4_reach_every_weight(options: NetworkOptions) -> None:
    network = build_network(options, 7)
    logits = network(torch.randn(2, 3, options.height, options.width))
    assert logits.shape == (2, 7, options.height // 4, options.width // 4)
    logits.square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in idle if not name.endswith("bias")] == []


@pytest.mark.parametrize("name", ["small", "small_odd", "mask", "segmenter_odd"])
def test_exported_equals_torch(name: str, tmp_path: Path) -> None:
    options = NETWORKS[name]
    torch.manual_seed(0)
    network = build_network(options, 5).eval()
    image = torch.randn(1, 3, options.height, options.width)
    torch.onnx.export(network, (image,), str(tmp_path / "model.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    np.testing.assert_allclose(found, network(image).detach().numpy(), atol=1e-4)


def test_small_knows_the_row() -> None:
    """On a featureless image only the row tells cells apart, and columns hardly."""
    torch.manual_seed(0)
    network = build_network(dataclasses.replace(SMALL, height=128, width=128), 4).eval()
    logits = network(torch.zeros(1, 3, 128, 128))[0, :, 8:24, 8:24]
    assert logits.var(dim=1).mean() > 3 * logits.var(dim=2).mean()


def test_segmenter_puts_patches_where_they_are() -> None:
    """A change at one place of the image changes the linear head's scores most at that place."""
    torch.manual_seed(0)
    options = dataclasses.replace(TINY_VIT, head="linear", height=64, width=128)
    network = build_network(options, 6).eval()
    network.encoder.blocks = torch.nn.Sequential()  # patch embedding only: nothing travels between tokens
    image = torch.randn(1, 3, 64, 128)
    other = image.clone()
    other[:, :, 16:32, 96:112] += 1
    change = (network(image) - network(other)).abs().sum(dim=1)[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert 4 <= row < 8
    assert 24 <= column < 28


def test_mask_transformer_against_the_papers_formula() -> None:
    torch.manual_seed(0)
    head = MaskTransformer(64, 5, 1)
    tokens = torch.randn(2, 6, 64)
    x = torch.cat([tokens @ head.project.weight.T + head.project.bias, head.class_tokens.repeat(2, 1, 1)], 1)
    x = head.norm(head.blocks[0](x)).detach().numpy()
    patches, classes = (
        x[:, :6] @ head.to_patch.weight.detach().numpy().T,
        x[:, 6:] @ head.to_class.weight.detach().numpy().T,
    )
    cosines = np.einsum("bnd,bcd->bnc", patches, classes)
    cosines /= np.linalg.norm(patches, axis=2)[:, :, None] * np.linalg.norm(classes, axis=2)[:, None]
    expected = (cosines - cosines.mean(2, keepdims=True)) / np.sqrt(cosines.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(head(tokens).detach().numpy(), expected, atol=1e-4)


def test_backbone_from_a_local_file(tmp_path: Path) -> None:
    source = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    network = build_network(dataclasses.replace(TINY_VIT, pretrained=str(tmp_path / "vit.safetensors")), 3)
    assert torch.equal(network.encoder.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)
    assert network.encoder.pos_embed.shape == (1, 1 + 4 * 6, 192)
    assert torch.allclose(network.encoder.pos_embed[:, 0], source.pos_embed[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dataclasses.replace(SMALL, height=0), "a network needs a size"),
        (dataclasses.replace(TINY_VIT, backbone="resnet18"), "'resnet18' is no plain vision transformer"),
        (dataclasses.replace(TINY_VIT, pretrained="weights.pth"), r"weights.pth: is no safetensors file"),
    ],
)
def test_options_that_cannot_be_built(options: NetworkOptions, message: str) -> None:
    with pytest.raises(DsegError, match=message):
        build_network(options, 3)


@pytest.mark.parametrize(("size", "near"), [(66, 64), (190, 192), (4, 32)])
def test_sizes_that_no_network_takes(size: int, near: int) -> None:
    """The nearest is one that it takes."""
    with pytest.raises(
        OptionError, match=f"^network.width = {size} must be a multiple of 4 from 32 on, such as {near}"
    ):
        TrainOptions.from_mapping({"network.width": size})
    assert build_network(dataclasses.replace(SMALL, width=near), 3)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DsegError, match=r"other\.safetensors: does not fit network\.backbone: \d+ weights are missing"):
        build_network(dataclasses.replace(TINY_VIT, pretrained=str(tmp_path / "other.safetensors")), 3)


@pytest.mark.parametrize("options", [SMALL, TINY_VIT], ids=["small", "segmenter"])
def test_run_comes_back_from_disk(options: NetworkOptions, tmp_path: Path) -> None:
    network = build_network(options, 4)
    network(torch.randn(2, 3, 64, 96))  # moves the running statistics
    RunDescription(options, ClassTable.of_clusters(3), {"labels": "x"}, {"seed": 1}).write(tmp_path)
    save_network(tmp_path, "teacher", network.state_dict())
    trained = load_network(tmp_path, "teacher")
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(trained.network(image), network.eval()(image))
    assert (trained.height, trained.width, len(trained.classes)) == (64, 96, 4)
    assert not trained.network.training
    assert RunDescription.read(tmp_path).inputs == {"labels": "x"}


def test_names_edited_by_hand_are_used(tmp_path: Path) -> None:
    RunDescription(SMALL, ClassTable.of_clusters(2), {}, {}).write(tmp_path)
    save_network(tmp_path, "student", build_network(SMALL, 3).state_dict())
    ClassTable.of_names(["road", "car", "car"], [(0, 0, 0), (1, 1, 1), (2, 2, 2)]).write(tmp_path / "classes.yaml")
    assert load_network(tmp_path).classes.names == ("road", "car")
    ClassTable.of_clusters(1).write(tmp_path / "classes.yaml")
    with pytest.raises(DsegError, match="has 2 classes, the network 3"):
        load_network(tmp_path)


def test_runs_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(DsegError, match=r"run\.json: cannot be read"):
        load_network(tmp_path)
    RunDescription(SMALL, ClassTable.of_clusters(2), {}, {}).write(tmp_path)
    with pytest.raises(DsegError, match=r"student\.safetensors: cannot be read"):
        load_network(tmp_path)
    (tmp_path / "student.safetensors").write_bytes(b"half a file")
    with pytest.raises(DsegError, match="is no safetensors file"):
        load_network(tmp_path)
    save_network(tmp_path, "student", build_network(SMALL, 5).state_dict())
    with pytest.raises(DsegError, match=r"does not fit run\.json"):
        load_network(tmp_path)
    (tmp_path / "run.json").write_text('{"network": {}}')
    with pytest.raises(DsegError, match=r"run\.json: is broken"):
        load_network(tmp_path)


def test_tensors_keep_their_bits(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "n": torch.tensor(7)}
    for name in ("one", "two"):
        write_tensors(tmp_path / name, tensors, {"step": "1", "identity": "x"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = read_tensors(tmp_path / "one")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_moving_average_against_the_closed_form() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    average = MovingAverage(network, 0.5)
    weight = expected = float(network[0].weight)
    for step in range(20):
        weight += 1.0
        torch.nn.init.constant_(network[0].weight, weight)
        network[1].running_mean.fill_(weight)
        network[1].num_batches_tracked.fill_(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        average.update(network, step)
    assert float(average.state["0.weight"]) == pytest.approx(expected, rel=1e-5)
    # Far from the start, a ramp is followed at a distance of d / (1 - d) steps.
    assert weight - float(average.state["0.weight"]) == pytest.approx(1.0, abs=1e-3)
    assert weight - float(average.state["1.running_mean"]) == pytest.approx(1.0, abs=0.01)
    assert int(average.state["1.num_batches_tracked"]) == 19
