"""Failures of ``smolvideo ask`` and their exit codes."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import tinymodels
from support.clipmaker import cut, evenly, tear, write_clip, write_sound
from support.terminals import environment, run_process

from smolvideo.cli.main import EXIT_PIPE_CLOSED, cli
from smolvideo.errors import SourceError, plain_reason

USAGE, SOURCE, MODEL, RECORD = 2, 3, 4, 5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", evenly(100, 25)).path


def run(model: Path | str, *words: str | Path) -> Result:
    options = ["--model", str(model), "--device", "cpu", "--max-new-tokens", "4"]
    return CliRunner().invoke(cli, ["ask", *options, *map(str, words)])


def assert_fails(done: Result, code: int, *says: str) -> None:
    """Check one error line, an optional hint, no stdout and no traceback."""
    assert done.exit_code == code, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert lines[0].startswith("Error: ")
    assert not lines[0].endswith(".")
    assert "unexpected" not in lines[0]
    assert [line[:6] for line in lines[1:]] in ([], ["hint: "])
    for words in says:
        assert words in done.stderr


# ------------------------------------------------------------------ 3: source and reader


def test_missing_file(tiny: Path, tmp_path: Path) -> None:
    assert_fails(run(tiny, tmp_path / "nowhere.mp4", "What?"), SOURCE, "no such file")


def test_text_file_named_mp4(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("this is no video\n" * 100)
    assert_fails(run(tiny, path, "What?"), SOURCE, "text.mp4")


def test_empty_file(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert_fails(run(tiny, path, "What?"), SOURCE, "empty")


def test_truncated_video(tiny: Path, video: Path, tmp_path: Path) -> None:
    # The index of an mp4 is at its end: without it no frame can be found.
    path = cut(video, tmp_path / "cut.mp4", 0.5)
    assert_fails(run(tiny, path, "What?"), SOURCE, "cut.mp4")


def test_audio_only_file(tiny: Path, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "sound.m4a")
    assert_fails(run(tiny, path, "What?"), SOURCE, "sound.m4a")


def test_folder_without_videos(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    assert_fails(run(tiny, tmp_path, "What?"), SOURCE, "no videos or pictures in the folder")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are another matter there")
def test_unreadable_file(tiny: Path, video: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.mp4"
    locked.write_bytes(video.read_bytes())
    locked.chmod(0)
    done = as_nobody_special(["ask", str(locked), "What?", "--model", str(tiny)], tmp_path)
    assert (done.returncode, done.stdout) == (SOURCE, "")
    assert done.stderr.startswith("Error: no permission to read")


def as_nobody_special(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run smolvideo without root, which file modes do not bind."""
    code = "import sys; from smolvideo.cli.main import main; main()"
    if os.geteuid() == 0:
        for parent in [folder, *folder.parents]:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & stat.S_IXOTH:
                parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
        # Import as root, run as `nobody`, who may not be able to read the interpreter's folder.
        code = (
            "import os, sys; from smolvideo.cli.main import main; import tomllib; "
            "import smolvideo.cli.ask, smolvideo.cli.config_file; "
            "os.setgroups([]); os.setegid(65534); os.seteuid(65534); main()"
        )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=600,
    )


@pytest.mark.parametrize("window", [("--start", "60"), ("--start", "3", "--end", "2")])
def test_window_outside_the_video(tiny: Path, video: Path, window: tuple[str, ...]) -> None:
    assert_fails(run(tiny, video, "What?", *window), SOURCE, "lasts")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes here")
def test_subtitles_from_a_pipe_without_writer(tiny: Path, video: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = run(tiny, video, "What?", "--subtitles", tmp_path / "pipe")
    assert_fails(done, SOURCE, "cannot read the subtitles", "no program writes to")


# ------------------------------------------------------------------ 4: prompt and model


@pytest.mark.parametrize("question", ["", "   "])
def test_question_without_text(tiny: Path, video: Path, question: str) -> None:
    assert_fails(run(tiny, video, question), MODEL, "no text")


def test_empty_stdin(tiny: Path, video: Path) -> None:
    done = CliRunner().invoke(cli, ["ask", "-m", str(tiny), str(video), "-"], input="\n")
    assert_fails(done, MODEL, "no text")


def test_frames_over_the_context(tiny: Path, video: Path) -> None:
    done = run(tiny, video, "What?", "--max-frames", "100")
    assert_fails(done, MODEL, "100 frames", "hint: `--max-frames ")
    fits = done.stderr.split("`--max-frames ")[1].split("`")[0]
    assert run(tiny, video, "What?", "--max-frames", fits).exit_code == 0
    assert run(tiny, video, "What?", "--max-frames", str(int(fits) + 1)).exit_code == MODEL


def test_answer_over_the_context(tiny: Path, video: Path) -> None:
    assert_fails(run(tiny, video, "What?", "--max-new-tokens", "2048"), MODEL)


def test_unknown_model(video: Path) -> None:
    assert_fails(
        run("nanno", video, "What?"), MODEL, "unknown model `nanno`", "did you mean `nano`"
    )


def test_missing_model_offline(video: Path) -> None:
    done = run("smolvlm2-256m", video, "What?", "--offline")
    assert_fails(done, MODEL, "is not on this machine", "`--model nano`")


def test_broken_checkpoints(tiny: Path, video: Path, tmp_path: Path) -> None:
    for broken, damage in {
        "no-config": lambda folder: (folder / "config.json").unlink(),
        "torn-config": lambda folder: (folder / "config.json").write_text("{"),
        "no-weights": lambda folder: (folder / "model.safetensors").unlink(),
        "torn-weights": lambda folder: truncate(folder / "model.safetensors"),
        "no-tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    }.items():
        folder = tmp_path / broken
        folder.mkdir()
        for file in tiny.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        damage(folder)
        assert_fails(run(folder, video, "What?"), MODEL, broken)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_missing_device(tiny: Path, video: Path) -> None:
    done = CliRunner().invoke(
        cli, ["ask", str(video), "What?", "--model", str(tiny), "--device", "cuda:77"]
    )
    assert_fails(done, MODEL, "cuda")


# ------------------------------------------------------------------ 2: usage


def test_missing_question(tiny: Path, video: Path) -> None:
    assert_fails(run(tiny, video), USAGE, "no question", "--question")


def test_unknown_device(tiny: Path, video: Path) -> None:
    done = CliRunner().invoke(
        cli, ["ask", str(video), "What?", "--model", str(tiny), "--device", "abacus"]
    )
    assert_fails(done, USAGE, "abacus")


def test_more_sources_than_frames(tiny: Path, video: Path) -> None:
    assert_fails(run(tiny, video, video, "What?", "--max-frames", "1"), USAGE, "--max-frames 2")


def test_empty_stop_string(tiny: Path, video: Path) -> None:
    done = run(tiny, video, "What?", "--stop", "")
    assert_fails(done, USAGE, "Error: the text to stop at must not be empty\nhint: leave `--stop`")


# ------------------------------------------------------------------ 5: records


def test_save_into_another_file(tiny: Path, video: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "diary.txt"
    foreign.write_text("dear diary\n")
    assert_fails(run(tiny, video, "What?", "--save", foreign), RECORD, "diary.txt")
    assert foreign.read_text() == "dear diary\n"


def test_output_into_a_missing_folder(tiny: Path, video: Path, tmp_path: Path) -> None:
    output = tmp_path / "nowhere" / "answer.txt"
    assert_fails(run(tiny, video, "What?", "--output", output), RECORD, "mkdir -p")


# ------------------------------------------------------------------ subprocesses


def test_subprocess_prints_the_same_error(tmp_path: Path) -> None:
    done = run_process("ask", tmp_path / "nowhere\x1b[2J.mp4", "What?")
    assert (done.returncode, done.stdout) == (SOURCE, "")
    assert done.stderr.startswith("Error: no such file")
    assert "\x1b" not in done.stderr


def test_error_while_the_model_loads_ends_at_once(tiny: Path, tmp_path: Path) -> None:
    # The first frames decode, so that loading starts; the rest is damaged.
    whole = write_clip(tmp_path / "whole.mp4", evenly(600, 20)).path
    torn = tear(whole, tmp_path / "torn.mp4", 0.1, 0.7)
    done = run_process("ask", torn, "What?", "--model", tiny)
    assert (done.returncode, done.stdout) == (SOURCE, "")
    assert "could be decoded" in done.stderr


SMOLVIDEO = f'"{sys.executable}" -m smolvideo'


def run_in_shell(command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, env=environment(), check=False, timeout=600
    )


@pytest.mark.parametrize(
    "words", ["models list", "models list --json", "ask --help", "completion zsh"]
)
def test_closed_pipe_is_no_error(words: str) -> None:
    done = run_in_shell(f"{SMOLVIDEO} {words} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_PIPE_CLOSED, b"", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", ["models list", "models list --json", "ask --help"])
def test_full_disk_on_stdout(words: str) -> None:
    done = run_in_shell(f"{SMOLVIDEO} {words} > /dev/full")
    assert done.returncode == RECORD
    assert done.stderr.decode() == "Error: cannot write the output: No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("models list", ">&-"),
        ("frames VIDEO", ">&-"),
        ("frames VIDEO", "> /dev/full"),
        ("ask VIDEO What?", ">&-"),
        ("ask VIDEO What?", "> /dev/full"),
        ("summarise VIDEO", "> /dev/full"),
    ],
)
def test_an_answer_that_cannot_be_shown_is_an_error(video: Path, words: str, where: str) -> None:
    if "full" in where and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = run_in_shell(f"{SMOLVIDEO} {words.replace('VIDEO', str(video))} {where}")
    why = "No space left on device" if "full" in where else "stdout is closed"
    errors = [line for line in done.stderr.decode().splitlines() if line[:6] != "note: "]
    assert (done.returncode, errors) == (RECORD, [f"Error: cannot write the output: {why}"])


def test_closed_stdout_does_not_matter_with_an_output_file(video: Path, tmp_path: Path) -> None:
    file = tmp_path / "answer.txt"
    done = run_in_shell(f'{SMOLVIDEO} ask "{video}" What? -o "{file}" >&-')
    assert (done.returncode, file.exists()) == (0, True)


def test_closed_stdin_and_stderr_act_like_the_null_device(video: Path) -> None:
    done = run_in_shell(f"{SMOLVIDEO} ask nowhere.mp4 What 2>&-")
    assert (done.returncode, done.stdout) == (SOURCE, b"")
    done = run_in_shell(f'{SMOLVIDEO} ask "{video}" - <&-')
    assert (done.returncode, b"no text" in done.stderr) == (MODEL, True)


def test_cache_of_an_unknown_user() -> None:
    done = run_process("ask", "http://127.0.0.1:9/a.mp4", "What?", SMOLVIDEO_CACHE_DIR="~nobody0/x")
    assert (done.returncode, done.stdout) == (SOURCE, "")
    assert done.stderr.startswith("Error: no home folder of that user: `~nobody0/x`\n")


@pytest.mark.parametrize(("words", "is_shown"), [([], False), (["--debug"], True)])
def test_library_warnings_are_shown_with_debug_only(words: list[str], is_shown: bool) -> None:
    program = (
        "import sys, warnings, logging\n"
        "from smolvideo.cli import main\n"
        "def speak(self, *_, **__):\n"
        "    warnings.warn('a library warns')\n"
        "    logging.getLogger('library').warning('a library logs')\n"
        "    raise OSError(13, 'Permission denied')\n"
        "main.Commands.invoke = speak\n"
        f"sys.argv[1:] = {[*words, 'models']!r}\n"
        "main.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 1
    assert ("a library warns" in done.stderr) is is_shown
    assert ("a library logs" in done.stderr) is is_shown
    assert "Error: unexpected error: PermissionError: Permission denied\n" in done.stderr


def test_errno_is_removed_from_messages() -> None:
    error = SourceError("cannot read `a`: [Errno 5] Input/output error: [WinError 32] in use")
    assert str(error) == "cannot read `a`: Input/output error: in use"
    assert plain_reason(OSError(28, "No space left on device")) == "No space left on device"
    assert plain_reason(ValueError()) == "ValueError"
