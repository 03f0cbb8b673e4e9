"""How near an exported graph must come to torch, and how near it came, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.networks.mask_agreement import Agreement
from dseg_core.stage_options import ExportOptions
from dseg_core.words import count

PIXELS = 0.999
"""Smallest share of pixels in which a graph of 32 bits must give torch's class."""


@dataclass(frozen=True)
class Gates:
    """What is allowed at most; options may say others.

    `miou_loss`: of mIoU. `clear_wrong`: share of clear pixels with another class. `confidence`: mean difference of the
    confidence, of 1; ten times as much in any one pixel.
    """

    miou_loss: float
    clear_wrong: float
    confidence: float


GATES = {
    "fp32": Gates(1.0, 1.0, 0.002),
    "fp16": Gates(0.02, 0.001, 0.005),
    "int8": Gates(0.1, 0.01, 0.03),
    "fp8": Gates(0.1, 0.01, 0.03),
}
"""By precision. Confidences: fp32, the half step by which 8 bits round; fp16, half of the hundredths in which people
choose what they trust (`min_confidence`); with 8 bits three such hundredths."""

_SINGLE = 10
"""How many times the mean difference a single pixel's may be."""


def told_agreement(found: Agreement) -> str:
    """One sentence."""
    text = (
        f"It gives torch's class in {found.pixels:.3%} of pixels on {count(found.images, 'recorded image')} (worst "
        f"image {found.worst:.3%}), another in {found.clear_wrong:.3%} of the pixels that are clear (a margin over "
        f"{found.clear_margin:g}; {found.clear:.1%} are); its mIoU against torch's masks is {1 - found.miou_loss:.3%}"
    )
    if found.labels_miou is not None and found.labels_miou_torch is not None:
        text += f", against the labels {found.labels_miou:.2%} (torch {found.labels_miou_torch:.2%})"
    if found.confidence is not None and found.confidence_mean is not None:
        text += (
            f". Its confidence is {found.confidence_mean / 255:.4f} from torch's, of 1, in the mean, "
            f"{found.confidence / 255:.3f} at most"
        )
    return f"{text}."


def check_agreement(found: Agreement, options: ExportOptions, run: Path) -> None:
    """Raise DsegError unless the graph does what torch does, well enough for its precision.

    A number that is NaN is not near enough; nor is a graph of which nothing is known, as no pixel is clear.
    """
    if options.precision == "fp32" and not found.pixels >= PIXELS:
        raise DsegError(
            f"the exported graph agrees with torch in {found.pixels:.3%} of pixels only, not {PIXELS:.1%}; "
            "nothing was written",
            where=run,
            fix="Try another version of torch or onnxruntime, and report it",
        )
    gates = GATES[options.precision]
    loss = gates.miou_loss if options.max_miou_loss is None else options.max_miou_loss
    wrong = gates.clear_wrong if options.max_clear_wrong is None else options.max_clear_wrong
    apart = gates.confidence if options.max_confidence_error is None else options.max_confidence_error
    lost = (found.labels_miou_torch or 0.0) - (found.labels_miou or 0.0)
    mean, largest = (found.confidence_mean or 0.0) / 255, (found.confidence or 0) / 255
    checks = (
        ("its mIoU against torch's masks is {} below 100%", found.miou_loss, loss, "--max-miou-loss"),
        ("its mIoU against the labels is {} below torch's", lost, loss, "--max-miou-loss"),
        ("{} of the clear pixels have another class", found.clear_wrong, wrong, "--max-clear-wrong"),
        ("its confidence is {} from torch's in the mean", mean, apart, "--max-confidence-error"),
        ("its confidence is {} from torch's in one pixel", largest, _SINGLE * apart, "--max-confidence-error"),
    )
    if wrong < 1 and not found.clear > 0:
        raise DsegError(
            f"no pixel is clear by a margin over {found.clear_margin:g}, so that nothing tells whether the model in "
            f"{options.precision} is torch's; nothing was written",
            where=run,
            fix="Choose a lower --clear-margin; or allow what is clear to be wrong with --max-clear-wrong 1",
        )
    for words, is_, most, flag in checks:
        if not is_ <= most:
            raise DsegError(
                f"the model in {options.precision} is not torch's: {words.format(f'{is_:.2%}')}, more than {most:.2%}; "
                "nothing was written",
                where=run,
                fix=f"Export in another --precision, or allow more with {flag}",
            )
