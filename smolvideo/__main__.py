"""``python -m smolvideo``: same as the command ``smolvideo``."""

from smolvideo.cli.main import main

if __name__ == "__main__":
    main()
