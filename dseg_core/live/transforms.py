"""Whether transforms reach a pair."""

from __future__ import annotations

from dseg_core.errors import DsegError
from dseg_core.frames_from_regions import readable_sweep
from dseg_core.live.messages import LiveMessage
from dseg_core.pairs_from_bag import SweepDone
from dseg_core.stage_options import TopicOptions
from dseg_core.transforms import TransformError, TransformTree


class TransformsOfPairs:
    """Tells whether a pair's frame can be made as it would be with all transforms there will be.

    Args:
        tree: Is added to meanwhile.
        topics: How sweeps are read.
    """

    def __init__(self, tree: TransformTree, topics: TopicOptions) -> None:
        self._tree, self._topics = tree, topics
        self._farthest_ns: int | None = None  # how far points' times are from their sweep's stamp

    def reach(self, pair: SweepDone) -> bool:
        """Whether the sensors are connected and, where something moves them, motion is known over the whole pair.

        `sweep` and images are LiveMessages.
        """
        sweep: LiveMessage = pair.sweep
        if self._farthest_ns is None:
            try:
                self._farthest_ns = readable_sweep(sweep.read(), self._topics).farthest_ns
            except DsegError:
                return True  # is accounted for when a frame is tried
        times = [sweep.stamp_ns, sweep.stamp_ns + self._farthest_ns]
        moves = self._tree.fixed_frame(sweep.frame_id) is not None
        for paired in pair.pairs.values():
            image: LiveMessage = paired.image
            try:
                why = self._tree.lookup_compensated(image.frame_id, image.stamp_ns, sweep.frame_id, times)[1]
            except TransformError:
                return False
            if moves and why is not None:
                return False
        return True
