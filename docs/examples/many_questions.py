"""Many questions about one video: frames are decoded and encoded once, answers stream."""

import smolvideo
from smolvideo import FrameSampling, Message

QUESTIONS = ("What moves?", "Which way does the circle move?", "What is in this video?")


def main(path: str = "samples/circle_right.mp4") -> None:
    with smolvideo.open("nano", path, sampling=FrameSampling(max_frames=16)) as video:
        print(f"{len(video.frames)} frames of {video.metadata.duration_seconds:.0f} s")
        for question in QUESTIONS:
            for piece in video.stream(question):
                print(piece, end="", flush=True)
            print()
        # Questions stand alone; one that refers to an earlier one is given it.
        earlier = Message("user", (QUESTIONS[0],)), Message("assistant", ("a purple circle",))
        print(video.ask("Which way does it move?", history=earlier))


if __name__ == "__main__":
    main()
