"""What surrounds the network, against numbers by hand and numpy."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.checkpoint import TrainedNetwork
from dseg_core.networks.mask_model import MaskModel


class Fixed(nn.Module):
    """Gives the same logits for every image, and keeps what it was given."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits.astype(np.float32))[None]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.given = image
        return self.logits


def trained(logits: np.ndarray, names: list[str], mean: float = 0.0, std: float = 1.0) -> TrainedNetwork:
    """Logits (C, h, w) of an input of 4h x 4w."""
    classes = ClassTable.of_names(names, [(i, i, i) for i in range(len(names))])
    size = (4 * logits.shape[1], 4 * logits.shape[2])
    return TrainedNetwork(Fixed(logits), classes, *size, (mean,) * 3, (std,) * 3)


def letterboxed(height: int, width: int, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of an image in the network's input, by its definition."""
    scale = min(Fraction(rows, height), Fraction(columns, width))
    inside = [max(1, int(scale * side + Fraction(1, 2))) for side in (height, width)]
    return (rows - inside[0]) // 2, (columns - inside[1]) // 2, inside[0], inside[1]


def run(model: MaskModel, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        mask, confidence = model(torch.zeros((1, height, width, 3), dtype=torch.uint8))
    assert mask.dtype == confidence.dtype == torch.uint8 and mask.shape == confidence.shape == (1, height, width)
    return mask[0].numpy(), confidence[0].numpy()


def test_naming_recolours_and_summing_outvotes() -> None:
    """Probabilities 0.3, 0.4, 0.2, 0.1: the second is the likeliest; first and third are, together."""
    logits = np.log([0.3, 0.4, 0.2, 0.1]).reshape(4, 1, 1)
    mask, confidence = run(MaskModel(trained(logits, ["a", "b", "c", "d"])), 4, 4)
    assert (mask == 1).all() and (confidence == round(0.4 * 255)).all()
    network = trained(logits, ["car", "road", "car", "pole"])
    for merge, name, probability in (("likeliest", 1, 0.4), ("sum", 0, 0.5)):
        model = MaskModel(network, merge=merge)
        mask, confidence = run(model, 4, 4)
        assert model.classes.names == ("car", "road", "pole")
        assert (mask == name).all() and (confidence == round(probability * 255)).all()
    mask, confidence = run(MaskModel(trained(logits, ["x", "road", "car", "road"])), 4, 4)
    assert (mask == 1).all() and (confidence == round(0.5 * 255)).all(), "a name's probability is its clusters'"


@pytest.mark.parametrize("seed", range(5))
def test_a_named_mask_is_the_unnamed_one_with_other_ids(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, names = rng.normal(0, 2, (7, 5, 6)), ["a", "b", "a", "c", "b", "a", "c"]
    unnamed, _ = run(MaskModel(trained(logits, list("1234567"))), 20, 24)
    named, _ = run(MaskModel(trained(logits, names)), 20, 24)
    np.testing.assert_array_equal(named, np.array([0, 1, 0, 2, 1, 0, 2])[unnamed])


def test_other_names_can_be_given_but_not_another_number() -> None:
    logits = np.log([0.3, 0.4, 0.3]).reshape(3, 1, 1)
    network = trained(logits, ["a", "b", "c"])
    given = ClassTable.of_names(["x", "y", "x"], [(0, 0, 0)] * 3)
    assert (run(MaskModel(network, given, merge="sum"), 2, 2)[0] == 0).all()
    assert (run(MaskModel(network, given), 2, 2)[0] == 1).all()
    with pytest.raises(DsegError, match="2 classes name a network of 3 outputs"):
        MaskModel(network, ClassTable.of_names(["x", "y"], [(0, 0, 0)] * 2))


@pytest.mark.parametrize(("height", "width"), [(8, 12), (375, 1242), (7, 5), (1, 1), (9, 1080)])
def test_mask_is_enlarged_by_nearest(height: int, width: int) -> None:
    """Against the definition, pixel by pixel, in whole numbers."""
    ids = np.random.default_rng(0).integers(0, 5, (6, 10))
    logits = 9.0 * (ids[None] == np.arange(5)[:, None, None])
    mask, _ = run(MaskModel(trained(logits, list("abcde"))), height, width)
    expected = [[ids[y * 6 // height, x * 10 // width] for x in range(width)] for y in range(height)]
    np.testing.assert_array_equal(mask, expected)


def test_decode_stride_is_the_side_of_equal_squares() -> None:
    """At stride s the mask of the network's input size is made of s x s squares, of logits resized bilinearly."""
    logits = np.random.default_rng(1).normal(0, 3, (4, 6, 10))
    for stride in (1, 2, 4, 8):
        mask, _ = run(MaskModel(trained(logits, list("abcd")), decode_stride=stride), 24, 40)
        cells = mask[::stride, ::stride]
        np.testing.assert_array_equal(mask, cells.repeat(stride, 0).repeat(stride, 1))
        if stride <= 4:
            size = (40 // stride, 24 // stride)
            fine = np.stack([cv2.resize(of_class, size, interpolation=cv2.INTER_LINEAR) for of_class in logits])
            np.testing.assert_array_equal(cells, fine.argmax(0))


def test_network_gets_the_resized_normalised_image() -> None:
    network = trained(np.zeros((2, 6, 10)), ["a", "b"], mean=0.4, std=0.2)
    image = np.random.default_rng(2).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    MaskModel(network)(torch.from_numpy(image)[None])
    resized = cv2.resize(image.astype(np.float32), (40, 24), interpolation=cv2.INTER_LINEAR)
    expected = ((resized / 255 - 0.4) / 0.2).transpose(2, 0, 1)
    np.testing.assert_allclose(network.network.given[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(50, 70), (20, 200), (200, 20), (24, 40), (375, 1242), (12, 20)])
def test_letterbox_keeps_the_aspect_in_mean_colour(height: int, width: int) -> None:
    network = trained(np.zeros((2, 6, 10)), ["a", "b"], mean=0.4, std=0.2)
    image = np.random.default_rng(2).integers(0, 256, (height, width, 3)).astype(np.uint8)
    MaskModel(network, fit="letterbox")(torch.from_numpy(image)[None])
    top, left, rows, columns = letterboxed(height, width, 24, 40)
    expected = np.zeros((3, 24, 40))
    resized = cv2.resize(image.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    expected[:, top : top + rows, left : left + columns] = ((resized / 255 - 0.4) / 0.2).transpose(2, 0, 1)
    np.testing.assert_allclose(network.network.given[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(50, 70), (20, 200), (200, 20), (24, 40), (375, 1242), (7, 5)])
@pytest.mark.parametrize("stride", [1, 4])
def test_letterbox_masks_cover_the_image_and_nothing_else(height: int, width: int, stride: int) -> None:
    """Each pixel against its place in the network's input, in fractions; cells in the margins are never seen."""
    top, left, rows, columns = letterboxed(height, width, 24, 40)
    ids = np.random.default_rng(0).integers(0, 5, (24 // stride, 40 // stride))
    outside = np.ones(ids.shape, bool)
    outside[top // stride : -(-(top + rows) // stride), left // stride : -(-(left + columns) // stride)] = False
    ids[outside] = 5
    at_4 = ids if stride == 4 else ids[::4, ::4]
    network = trained(9.0 * (at_4[None] == np.arange(6)[:, None, None]), list("abcdef"))
    if stride == 1:
        network.network.logits = torch.from_numpy(9.0 * (ids[None] == np.arange(6)[:, None, None])).float()[None]
    mask, confidence = run(MaskModel(network, decode_stride=stride, fit="letterbox"), height, width)
    expected = [
        [
            ids[int((top + Fraction(y * rows, height)) / stride), int((left + Fraction(x * columns, width)) / stride)]
            for x in range(width)
        ]
        for y in range(height)
    ]
    np.testing.assert_array_equal(mask, expected)
    assert 5 not in mask and (confidence == round(255 / (1 + 5 * np.exp(-9)))).all()


def test_the_fit_is_what_was_trained_unless_another_is_asked_for() -> None:
    plain = trained(np.zeros((2, 6, 10)), ["a", "b"])
    boxed = dataclasses.replace(plain, fit="letterbox")
    assert [MaskModel(plain).fit, MaskModel(boxed).fit, MaskModel(boxed, fit="stretch").fit] == [
        *("stretch", "letterbox", "stretch")
    ]


@pytest.mark.parametrize("merge", ["likeliest", "sum"])
@pytest.mark.parametrize("names", ["abcdefg", "abacbac"])
def test_masks_without_confidence_are_the_same(names: str, merge: str) -> None:
    logits = np.random.default_rng(3).normal(0, 2, (7, 6, 10))
    network, image = trained(logits, list(names)), torch.zeros((2, 50, 70, 3), dtype=torch.uint8)
    (mask,) = MaskModel(network, merge=merge, confidence=False)(image)
    torch.testing.assert_close(mask, MaskModel(network, merge=merge)(image)[0], rtol=0, atol=0)


def test_the_margin_is_to_the_next_class_by_what_decides() -> None:
    """Probabilities 0.3, 0.4, 0.2, 0.1 again; of classes of one name the likeliest, or all together."""
    logits, image = np.log([0.3, 0.4, 0.2, 0.1]).reshape(4, 1, 1), torch.zeros((1, 9, 5, 3), dtype=torch.uint8)
    for names, merge, expected in (
        (["a", "b", "c", "d"], "likeliest", 0.1),
        (["car", "road", "car", "pole"], "likeliest", 0.1),
        (["road", "road", "car", "pole"], "likeliest", 0.2),
        (["car", "road", "car", "pole"], "sum", 0.1),
        (["road", "road", "car", "pole"], "sum", 0.5),
        (["a"] * 4, "sum", 1.0),
    ):
        margin = MaskModel(trained(logits, names), merge=merge).margin(image)
        assert margin.shape == (1, 9, 5)
        np.testing.assert_allclose(margin.numpy(), expected, atol=1e-6)
