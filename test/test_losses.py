"""Losses, augmentation and the constraint inside proposals, against slow and plain versions of themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.networks.augmentation import Batch, draw_views, look, make_batch, normalise, vary_colour
from dseg_core.networks.consistency import make_consistent
from dseg_core.networks.losses import batch_loss, cell_weights, class_weights_of
from dseg_core.networks.samples import Sample, SampleCache
from dseg_core.stage_options import AugmentationOptions

CPU = torch.device("cpu")
STILL = AugmentationOptions(flip=0.0, smallest=1.0, largest=1.0, colour=0.0)


def toy_batch(seed: int, soft: bool = False) -> tuple[torch.Tensor, Batch]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 5, 6, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 5, 6), generator=generator)
    labels[torch.rand(2, 5, 6, generator=generator) < 0.4] = 255
    regions = torch.randint(0, 5, (2, 5, 6), generator=generator)
    probabilities = torch.rand(2, 4, 5, 6, generator=generator).softmax(dim=1) if soft else None
    return logits, Batch(torch.zeros(2, 3, 20, 24), labels, probabilities, regions)


@pytest.mark.parametrize("balance", ["none", "class", "region"])
def test_gradient_is_exactly_zero_where_unlabelled(balance: str) -> None:
    logits, batch = toy_batch(0)
    batch_loss(logits, batch, balance, torch.tensor([1.0, 2.0, 0.5, 1.0])).backward()
    unlabelled = (batch.labels == 255)[:, None].expand_as(logits)
    assert logits.grad is not None
    assert not logits.grad[unlabelled].any()
    assert logits.grad[~unlabelled].all()


def test_nothing_labelled_gives_zero_and_no_gradient() -> None:
    logits, batch = toy_batch(0)
    batch.labels.fill_(255)
    loss = batch_loss(logits, batch, "region", torch.ones(4))
    loss.backward()
    assert float(loss) == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("balance", ["none", "class", "region"])
@pytest.mark.parametrize("soft", [False, True])
def test_loss_against_loops(balance: str, soft: bool) -> None:
    logits, batch = toy_batch(3, soft)
    class_weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    found = float(batch_loss(logits, batch, balance, class_weights))
    x = logits.detach().double().numpy()
    labels, regions = batch.labels.numpy(), batch.regions.numpy()
    total = norm = 0.0
    for b, r, c in np.ndindex(labels.shape):
        label = labels[b, r, c]
        if label == 255:
            continue
        same = (regions[b] == regions[b, r, c]) & (labels[b] != 255)
        weight = {"none": 1.0, "class": float(class_weights[label]), "region": same.sum() ** -0.5}[balance]
        likelihood = x[b, :, r, c] - np.log(np.exp(x[b, :, r, c]).sum())
        target = np.eye(4)[label] if batch.soft is None else batch.soft[b, :, r, c].numpy()
        total -= weight * (target * likelihood).sum()
        norm += weight
    assert found == pytest.approx(total / norm, rel=1e-5)


def test_soft_loss_is_least_at_the_target() -> None:
    _, batch = toy_batch(1, soft=True)
    batch.labels.fill_(0)
    assert batch.soft is not None
    logits = batch.soft.log().clone().requires_grad_(True)
    batch_loss(logits, batch, "none", torch.ones(4)).backward()
    assert float(logits.grad.abs().max()) < 1e-7


def test_a_small_region_is_heard() -> None:
    labels = torch.zeros(1, 20, 20, dtype=torch.long)
    regions = torch.zeros_like(labels)
    regions[0, :4, :4] = 7
    weights = cell_weights(labels, regions, "region", torch.ones(1))[0]
    assert float(weights[:4, :4].sum()) == pytest.approx(4)  # sqrt of 16 cells
    assert float(weights.sum()) == pytest.approx(4 + 384**0.5, rel=1e-5)


def test_class_weights() -> None:
    weights = class_weights_of(torch.tensor([90.0, 10.0, 0.0], dtype=torch.float64))
    assert float(weights[1] / weights[0]) == pytest.approx(3)
    assert float(0.9 * weights[0] + 0.1 * weights[1]) == pytest.approx(1)
    assert float(weights[2]) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["mean", "majority", "none"]), st.integers(1, 6), st.booleans())
def test_constraint_against_loops(seed: int, how: str, support: int, ground: bool) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(4), (6, 7)).transpose(2, 0, 1).astype(np.float32)
    regions = random.integers(0, 8, (6, 7))
    found = make_consistent(torch.from_numpy(probabilities), torch.from_numpy(regions), how, support, ground).numpy()
    expected = probabilities.copy()
    for region in range(1 if ground else 2, 8):
        inside = regions == region
        if inside.sum() < support or how == "none":
            continue
        if how == "mean":
            expected[:, inside] = probabilities[:, inside].astype(np.float64).mean(axis=1)[:, None]
        else:
            winner = np.bincount(probabilities[:, inside].argmax(axis=0), minlength=4).argmax()
            expected[:, inside] = np.eye(4)[winner][:, None]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def coded_sample(height: int = 64, width: int = 96) -> Sample:
    """The image's red and green say column and row; so do target (column block) and regions (row block)."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns * 2, rows * 2, np.full_like(rows, 128)]).astype(np.uint8)
    return Sample(
        torch.from_numpy(image),
        torch.from_numpy((columns // 8).astype(np.uint8)),
        torch.from_numpy((rows // 8).astype(np.int32)),
    )


def column_and_row(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each cell's centre came from, in pixels, read from the image's colours."""
    zero, one = normalise(torch.zeros(1, 3, 1, 1)), normalise(torch.ones(1, 3, 1, 1))
    colours = (batch.images - zero) / (one - zero) * 255
    centre = (colours[:, :, 1::4, 1::4] + colours[:, :, 2::4, 2::4]) / 2  # the middle of 4x4 pixels
    return centre[:, 0] / 2, centre[:, 1] / 2


@pytest.mark.parametrize("seed", range(8))
def test_targets_move_with_the_image(seed: int) -> None:
    options = AugmentationOptions(flip=0.5, smallest=0.7, largest=1.8, colour=0.0)
    batch = make_batch([coded_sample()] * 4, options, torch.Generator().manual_seed(seed), CPU)
    columns, rows = column_and_row(batch)
    outside = torch.nn.functional.pad((batch.labels == 255).float(), (1, 1, 1, 1), value=1.0)
    inside = torch.nn.functional.max_pool2d(outside, 3, 1) == 0  # at the edge colours blend with what is outside
    inside &= (columns > 1) & (rows > 1) & (columns < 94) & (rows < 62)
    assert inside.float().mean() > 0.4
    # Half a cell's slack: nearest neighbour may fall on the other side of a block's edge.
    block = (batch.labels.float() * 8 + 3.5 - columns).abs()
    assert float(block[inside].max()) <= 4.6
    assert float((batch.regions.float() * 8 + 3.5 - rows).abs()[inside].max()) <= 4.6
    assert float(block[inside].mean()) < 2.2


def test_soft_targets_move_like_hard_ones() -> None:
    sample = coded_sample()
    soft = torch.nn.functional.one_hot(sample.target[2::4, 2::4].long(), 12).permute(2, 0, 1).half()
    softened = Sample(sample.image, soft, sample.regions[2::4, 2::4].contiguous())
    options = AugmentationOptions(flip=0.5, smallest=0.8, largest=1.5, colour=0.0)
    hard = make_batch([sample] * 6, options, torch.Generator().manual_seed(5), CPU)
    same = make_batch([softened] * 6, options, torch.Generator().manual_seed(5), CPU)
    assert torch.equal(hard.images, same.images)
    both = (hard.labels != 255) & (same.labels != 255)
    assert float((hard.labels == same.labels)[both].float().mean()) > 0.9
    assert float((hard.labels - same.labels)[both].abs().max()) <= 1
    assert same.soft is not None
    assert float(same.soft.sum(dim=1).max()) < 1.001


def test_without_augmentation_nothing_changes() -> None:
    sample = coded_sample()
    batch = make_batch([sample], STILL, torch.Generator().manual_seed(0), CPU)
    assert torch.allclose(batch.images[0], normalise(sample.image[None].float() / 255)[0], atol=1e-4)
    assert torch.equal(batch.labels[0], sample.target[2::4, 2::4].long())


def test_mirroring_alone_mirrors() -> None:
    options = AugmentationOptions(flip=1.0, smallest=1.0, largest=1.0, colour=0.0)
    still = make_batch([coded_sample()], STILL, torch.Generator().manual_seed(0), CPU)
    mirrored = make_batch([coded_sample()], options, torch.Generator().manual_seed(0), CPU)
    assert torch.allclose(mirrored.images, still.images.flip(3), atol=1e-4)
    assert torch.equal(mirrored.labels, still.labels.flip(2))


def test_views_stay_inside_when_enlarging_and_show_all_when_shrinking() -> None:
    views = draw_views(500, AugmentationOptions(smallest=0.5, largest=2.0), torch.Generator().manual_seed(0))
    reach = views[:, 0, 0].abs() + views[:, 0, 2].abs()
    enlarged = views[:, 1, 1] <= 1
    assert float(reach[enlarged].max()) <= 1 + 1e-5
    assert float((views[:, 1, 1] - views[:, 1, 2].abs())[~enlarged].min()) >= 1 - 1e-5
    assert 0.4 < float(enlarged.float().mean()) < 0.6
    assert 0.4 < float((views[:, 0, 0] < 0).float().mean()) < 0.6


def test_outside_is_unlabelled() -> None:
    views = torch.tensor([[[2.0, 0, 0], [0, 2.0, 0]]])
    seen = look(torch.ones(1, 1, 8, 8), views, (8, 8), "nearest")[0, 0]
    assert seen[2:6, 2:6].all()
    assert float(seen.sum()) == 16


def test_colour_changes_nothing_at_zero_and_stays_in_range() -> None:
    images = torch.rand(3, 3, 8, 8)
    assert torch.allclose(vary_colour(images, torch.zeros(3, 3)), images, atol=1e-6)
    grey = vary_colour(images, torch.tensor([[0.0, 0.0, -1.0]] * 3))
    assert float(grey.std(dim=1).max()) < 1e-6
    wild = vary_colour(images, torch.ones(3, 3))
    assert 0 <= float(wild.min()) <= float(wild.max()) <= 1


class Three:
    asked = 0

    def __len__(self) -> int:
        return 3

    def image(self, index: int) -> np.ndarray:
        self.asked += 1
        return np.full((30, 40, 3), 50 * index, np.uint8)

    def target(self, index: int) -> np.ndarray:
        return np.full((30, 40), index, np.uint8)

    def regions(self, index: int) -> np.ndarray | None:
        return None


def test_cache_keeps_what_fits() -> None:
    samples = Three()
    one = SampleCache(samples, 16, 32, limit=1e9)[0].nbytes
    samples.asked = 0
    cache = SampleCache(samples, 16, 32, limit=1.5 * one)
    for _ in range(2):
        for index in range(3):
            assert int(cache[index].image.max()) == 50 * index
    assert samples.asked == 1 + 2 * 2
    np.testing.assert_allclose(cache.class_mass(3), [1, 1, 1])


def test_cells_with_less_probability_count_less() -> None:
    """At the image's edge a soft target sums to less than one: it pulls with that much."""
    logits, batch = toy_batch(5, soft=True)
    assert batch.soft is not None
    batch.labels.fill_(0)
    faded = batch.soft.clone()
    faded[:, :, 0] *= 0.25
    cells = -(batch.soft * torch.log_softmax(logits, dim=1)).sum(dim=1).detach()  # (B, h, w)
    weights = torch.ones_like(cells)
    weights[:, 0] = 0.25
    loss = batch_loss(logits, replace(batch, soft=faded), "none", torch.ones(4))
    assert float(loss.detach()) == pytest.approx(float((cells * weights).sum() / weights.sum()), rel=1e-5)
