"""Word wrap of streamed text."""

from rich.cells import cell_len


class WordWrap:
    """Breaks text between words for a terminal of ``width`` cells, which would break within them.

    A word is buffered until its end is known; a word wider than a line is left to the terminal.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._blanks = ""
        self._word = ""

    def wrap(self, piece: str) -> str:
        """Add ``piece`` and return the text that can be printed now."""
        shown = ""
        for char in piece:
            if char == "\n":
                shown += self.flush() + char
                self._column, self._blanks = 0, ""
            elif char.isspace():
                shown += self.flush()
                self._blanks += " "  # the terminal alone knows the width of a tab
            else:
                # Chinese and Japanese may break anywhere, and have no spaces to wait for.
                is_wide = cell_len(char) > 1
                if is_wide:
                    shown += self.flush()
                self._word += char
                if is_wide or cell_len(self._word) >= self._width:
                    shown += self.flush()
        return shown

    def flush(self) -> str:
        """Return the buffered word, after its spaces or on a new line."""
        if not self._word:
            return ""
        before, word = self._blanks, self._word
        self._blanks = self._word = ""
        if self._column and self._column + cell_len(before + word) > self._width:
            before, self._column = "\n", 0
        self._column += cell_len(before.removeprefix("\n") + word)
        return before + word
