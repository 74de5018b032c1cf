"""One question about one video: the answer, what it cost, and the times of the frames it saw."""

import sys

import smolvideo


def main(path: str = "samples/circle_right.mp4", question: str = "What moves?") -> None:
    answer = smolvideo.ask("nano", path, question)
    print(answer)
    print(f"{answer.usage.frames} frames, {answer.usage.tokens['answer']} tokens")
    (times,) = answer.frame_times
    print(f"the last frame is at {times[-1]:.1f} s")
    for notice in answer.notices:
        print(f"note: {notice}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
