"""One question about every video of a folder, as JSON lines; a broken file does not end the run."""

import json
import sys

import smolvideo
from smolvideo import SmolVideoError


def main(folder: str = "samples", question: str = "What colour is the background?") -> None:
    with smolvideo.load_engine("nano") as engine:  # one engine for all videos
        for source in smolvideo.resolve_source(folder):
            try:
                answer = smolvideo.ask(engine, source, question)
            except SmolVideoError as error:
                print(f"{source.name}: {error}", file=sys.stderr)
                continue
            print(json.dumps(answer.to_dict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
