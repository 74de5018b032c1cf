"""Which of several answers is the most likely, and how sure the model is."""

import math

import smolvideo

OPTIONS = ("left", "right", "up", "down")


def main(path: str = "samples/circle_right.mp4") -> None:
    with smolvideo.open("nano", path) as video:
        scores = video.score("Which way does the circle move?", OPTIONS)
    for option, score in sorted(zip(OPTIONS, scores, strict=True), key=lambda pair: -pair[1]):
        print(f"{option:6}{math.exp(score):8.1%}")


if __name__ == "__main__":
    main()
