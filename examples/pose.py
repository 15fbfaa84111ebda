"""A dance made up by a formula, as poses for `douga paint --model vid2vid-pose`: `python examples/pose.py` writes pose-maps/.

Points are MediaPipe's, as `douga data prepare pose` finds them; here nobody was filmed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from douga.video.io import from_uint8, write_image
from douga.video.landmarks import draw_pose

SIDE, FRAMES = 248, 48
STILL = {  # x, y of the parts that do not turn, in half pixels; the dancer's left is right in the picture
    0: (248, 148), 2: (256, 140), 5: (240, 140), 7: (268, 144), 8: (228, 144), 33: (248, 192),
    11: (282, 194), 12: (214, 194), 23: (268, 322), 24: (228, 322),
    25: (270, 396), 26: (226, 396), 27: (270, 462), 28: (226, 462), 31: (280, 478), 32: (216, 478),
}  # fmt: skip
ARMS = ((11, 13, 15, 19, 1), (12, 14, 16, 20, -1))  # shoulder, elbow, wrist, hand; to which side
LENGTHS = (62, 58, 22)


def pose(t: float) -> np.ndarray:
    """(34, 3): x, y in px, and how surely it is seen, at t in [0, 1); t = 1 would be t = 0 again."""
    points = np.zeros((34, 3), dtype=np.float32)
    sway = 14 * np.sin(2 * np.pi * t)
    for number, (x, y) in STILL.items():
        points[number] = x + sway * np.clip((462 - y) / 270, 0, 1), y, 1
    for shoulder, elbow, wrist, hand, side in ARMS:
        # From hanging to raised and back, the second arm a quarter later; the forearm is ahead of the upper arm.
        lifted = 0.5 - 0.5 * np.cos(2 * np.pi * (t - 0.25 * (side < 0)))
        angle, place = 0.25 + 2.0 * lifted, points[shoulder, :2]
        for joint, length, bend in zip((elbow, wrist, hand), LENGTHS, (0.0, 0.35 * lifted, 0.4 * lifted), strict=True):
            place = place + length * np.array([side * np.sin(angle + bend), np.cos(angle + bend)])
            points[joint] = *place, 1
    points[:, :2] /= 2
    return points


def main() -> None:
    folder = Path(__file__).parent / "pose-maps"
    folder.mkdir(exist_ok=True)
    blank = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    for k in range(FRAMES):
        drawn = draw_pose(blank, pose(k / FRAMES))
        write_image(folder / f"{k:04}.png", from_uint8(drawn[None])[:, 0])


if __name__ == "__main__":
    main()
