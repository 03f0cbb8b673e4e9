"""The options of every stage. Light to import: the command line reads its help from here."""

from dseg_core.stage_options.engine import BACKENDS, EngineOptions
from dseg_core.stage_options.evaluate import EvaluateOptions, ScoreProposalsOptions
from dseg_core.stage_options.frames import ExportFramesOptions, FrameCheckOptions
from dseg_core.stage_options.inspect import CheckOptions, InspectOptions
from dseg_core.stage_options.label import FeatureOptions, FeatureWeights, LabelOptions
from dseg_core.stage_options.live import LiveOptions
from dseg_core.stage_options.pages import DemoOptions, ReportOptions
from dseg_core.stage_options.proposals import ProposalOptions, RegionOptions
from dseg_core.stage_options.record import (
    EgoOptions,
    FrameOptions,
    PairingOptions,
    RecordOptions,
    SelectionOptions,
    StoreOptions,
    TopicOptions,
)
from dseg_core.stage_options.runtime import ExportOptions, SegmentOptions
from dseg_core.stage_options.simulate import SimulateOptions
from dseg_core.stage_options.train import (
    AugmentationOptions,
    DeviceOptions,
    FitOptions,
    NetworkOptions,
    TargetOptions,
    TrainOptions,
)
from dseg_core.stage_options.view import ViewOptions

__all__ = [
    "BACKENDS",
    "AugmentationOptions",
    "CheckOptions",
    "DemoOptions",
    "DeviceOptions",
    "EgoOptions",
    "EngineOptions",
    "EvaluateOptions",
    "ExportFramesOptions",
    "ExportOptions",
    "FeatureOptions",
    "FeatureWeights",
    "FitOptions",
    "FrameCheckOptions",
    "FrameOptions",
    "InspectOptions",
    "LabelOptions",
    "LiveOptions",
    "NetworkOptions",
    "PairingOptions",
    "ProposalOptions",
    "RecordOptions",
    "RegionOptions",
    "ReportOptions",
    "ScoreProposalsOptions",
    "SegmentOptions",
    "SelectionOptions",
    "SimulateOptions",
    "StoreOptions",
    "TargetOptions",
    "TopicOptions",
    "TrainOptions",
    "ViewOptions",
]
