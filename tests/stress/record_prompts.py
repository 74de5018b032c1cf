"""Record the prompts of lmms-eval and VLMEvalKit by running their own functions.

``tests/golden/eval-prompts.json`` has, for made-up questions in each benchmark's columns, the texts
that the two tools build, and the commits that built them; ``tests/evals/test_prompts.py`` compares
ours. The checkouts are named on the command line; some packages that they import are replaced by
stubs, because the functions that build texts need none of them.
"""

import argparse
import ast
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

GOLDEN = Path(__file__).parents[1] / "golden" / "eval-prompts.json"
OPTIONS = ("red {0}", "blue, or 50 %", "a “green” one", "none of (A)", "all")
QUESTION = "Who sits down first? Choose one."
DOTTED = [f"{letter}. {text}" for letter, text in zip("ABCDE", OPTIONS, strict=True)]
BRACKETED = [f"({letter}) {text}" for letter, text in zip("ABCDE", OPTIONS, strict=True)]

Row = dict[str, Any]
LMMS_EVAL: dict[str, tuple[str, str, str, Row]] = {
    # benchmark: YAML file, module, function, row
    "cinepile": ("cinepile/cinepile.yaml", "cinepile.utils", "cinepile_doc_to_text", {
        "question": QUESTION, "choices": list(OPTIONS), "answer_key": OPTIONS[0],
        "answer_key_position": 0, "subtitles": "<subtitle> Hm.\n<subtitle> No.", "videoID": "abcde",
    }),
    "video-mme": ("videomme/videomme.yaml", "videomme.utils", "videomme_doc_to_text", {
        "question": QUESTION, "options": DOTTED[:4], "answer": "A", "videoID": "v",
    }),
    "mvbench": ("mvbench/mvbench_action_antonym.yaml", "mvbench.utils", "mvbench_doc_to_text", {
        "question": QUESTION, "candidates": list(OPTIONS[:3]), "answer": OPTIONS[1], "video": "v",
    }),
    "egoschema": ("egoschema/egoschema_subset.yaml", "egoschema.utils", "egoschema_doc_to_text", {
        "question": QUESTION, "option": DOTTED, "answer": "1", "video_idx": "v",
    }),
    "mlvu": ("mlvu/mlvu_dev.yaml", "mlvu.utils", "mlvu_doc_to_text", {
        "question": "\n".join([QUESTION, *BRACKETED[:4]]), "answer": "B", "video_name": "v.mp4",
    }),
    "longvideobench": (
        "longvideobench/longvideobench_val_v.yaml", "longvideobench.utils",
        "longvideobench_doc_to_text", {
            "question": QUESTION, "option4": "N/A", "correct_choice": 1,
            **{f"option{n}": text for n, text in enumerate(OPTIONS[:4])},
            "id": "q", "video_path": "v.mp4",
        },
    ),
    "tempcompass": (
        "tempcompass/_default_template_yaml", "tempcompass.utils",
        "tempcompass_doc_to_text_multi_choice", {
            "question": "\n".join([QUESTION, *DOTTED[:3]]), "answer": DOTTED[1], "video_id": "v",
            "dim": "speed",
        },
    ),
    "worldsense": ("worldsense/worldsense.yaml", "worldsense.utils", "worldsense_doc_to_text", {
        "question": QUESTION, "candidates": DOTTED[:4], "answer": "B", "video": "v",
    }),
    "nextqa": ("nextqa/_default_template_yaml", "nextqa.utils", "nextqa_doc_to_text_mc", {
        "question": QUESTION, **{f"a{n}": text for n, text in enumerate(OPTIONS)}, "answer": 1,
        "qid": 0, "video": 7,
    }),
    "perceptiontest": (
        "perceptiontest/val/perceptiontest_mc.yaml", "perceptiontest.val.utils",
        "perceptiontest_val_doc_to_text", {
            "question": QUESTION, "options": list(OPTIONS[:3]), "answer_id": "1",
            "question_id": "0", "video_name": "v",
        },
    ),
    "lvbench": ("lvbench/lvbench.yaml", "lvbench.utils", "lvbench_doc_to_text", {
        "question": "\n".join([QUESTION, *BRACKETED[:4]]), "answer": "B", "key": "v", "uid": "0",
    }),
    "mmvu": ("mmvu/mmvu_val.yaml", "mmvu.utils", "mmvu_doc_to_text", {
        "question": QUESTION, "question_type": "multiple-choice", "answer": "B", "id": "0",
        "choices": dict(zip("ABCDE", OPTIONS, strict=True)), "video": "https://x.org/Art/0.mp4",
    }),
}  # fmt: skip

VLMEVALKIT: dict[str, tuple[str, str, Row]] = {
    # benchmark: module, class, row of its TSV file
    "video-mme": ("videomme", "VideoMME", {
        "question": QUESTION, "candidates": str(DOTTED[:4]), "answer": "A", "video": "v",
    }),
    "mvbench": ("mvbench", "MVBench", {
        "question": QUESTION, "candidates": str(list(OPTIONS[:3])), "answer": OPTIONS[1],
        "video": "v.mp4", "prefix": "p",
    }),
    "mlvu": ("mlvu", "MLVU_MCQ", {
        "question": QUESTION, "candidates": str(list(OPTIONS[:4])), "answer": OPTIONS[1],
        "video": "v.mp4", "prefix": "p",
    }),
    "tempcompass": ("tempcompass", "TempCompass_MCQ", {
        "question": QUESTION, "candidates": str(DOTTED[:3]), "answer": DOTTED[1], "video": "v",
        "suffix": ".mp4", "prefix": "p",
    }),
    "longvideobench": ("longvideobench", "LongVideoBench", {
        "question": QUESTION, "candidates": str(list(OPTIONS[:4])), "correct_choice": 1,
        "video_path": "v.mp4",
    }),
    "worldsense": ("worldsense", "WorldSense", {
        "question": QUESTION, "candidates": str(DOTTED[:4]), "answer": "B", "video": "v",
    }),
}  # fmt: skip


STUBBED = (
    "datasets", "decord", "evaluate", "latex2sympy2", "loguru", "nltk", "pandas", "pycocoevalcap",
    "pysubs2", "pytablewriter", "pytz", "requests", "sympy", "torch", "transformers",
)  # fmt: skip


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stubs for packages that the tools import, and that no text depends on."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] not in STUBBED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        module = MagicMock(name=spec.name)
        module.__spec__, module.__path__, module.__name__ = spec, [], spec.name
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _package_without_init(name: str, folder: Path) -> None:
    """Make a package whose own ``__init__`` is not run: it imports all of the tool."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def _default_kwargs(path: Path) -> Row:
    import yaml

    class _Loader(yaml.SafeLoader):
        pass

    _Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return dict((content.get("lmms_eval_specific_kwargs") or {}).get("default") or {})


def record_lmms_eval(folder: Path) -> list[Row]:
    """Run the function of each task with the arguments of its YAML file."""
    tasks = folder / "lmms_eval" / "tasks"
    _package_without_init("lmms_eval", folder / "lmms_eval")
    _package_without_init("lmms_eval.tasks", tasks)
    found = []
    for benchmark, (yaml_file, module, function, row) in LMMS_EVAL.items():
        made = getattr(importlib.import_module(f"lmms_eval.tasks.{module}"), function)
        text = made(dict(row), _default_kwargs(tasks / yaml_file))
        found.append(
            {"prompt": "lmms-eval", "benchmark": benchmark, "row": row, "before": "", "text": text}
        )
    return found


def record_vlmevalkit(folder: Path) -> list[Row]:
    """Run ``build_prompt`` of each data set without its files, for a model without subtitles."""
    _package_without_init("vlmeval", folder / "vlmeval")
    _package_without_init("vlmeval.dataset", folder / "vlmeval" / "dataset")
    _package_without_init("vlmeval.dataset.utils", folder / "vlmeval" / "dataset" / "utils")
    found = []
    for benchmark, (module, name, row) in VLMEVALKIT.items():
        source = (folder / "vlmeval" / "dataset" / f"{module}.py").read_text(encoding="utf-8")
        kind = _class_of(source, name)
        data_set = kind()
        data_set.use_subtitle = data_set.use_audio = False
        data_set.data_root, data_set.fps = "root", -1
        data_set.save_video_frames = lambda *_: (["frame"], [0], {"fps": 1})
        data_set.save_video_into_images = lambda *_: ["frame"]
        messages = data_set.build_prompt(dict(row), False)
        at = next(n for n, one in enumerate(messages) if one["type"] == "image")
        before, after = (
            "\n".join(one["value"] for one in part if one["type"] == "text")
            for part in (messages[:at], messages[at:])
        )
        options = OPTIONS[: len(ast.literal_eval(row["candidates"]))]
        made = {"benchmark": benchmark, "options": options, "before": before, "text": after}
        found.append({"prompt": "vlmevalkit", **made})
    return found


def _class_of(source: str, name: str) -> Any:
    """Execute the class ``name`` of a module with its texts and methods, and nothing else of it."""
    (found,) = [
        node for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]  # fmt: skip
    found.bases = []
    kept = ("qa_template", "build_prompt")
    found.body = [
        node for node in found.body
        if isinstance(node, ast.Assign) or (isinstance(node, ast.FunctionDef) and node.name in kept)
    ]  # fmt: skip
    space: dict[str, Any] = {"os": os, "osp": os.path, "json": json}
    exec(compile(ast.Module([found], []), name, "exec"), space)
    return space[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for tool in ("lmms-eval", "vlmevalkit"):
        parser.add_argument(f"--{tool}", nargs=2, metavar=("DIR", "COMMIT"), required=True)
    given = parser.parse_args()
    sys.meta_path.insert(0, _Stubs())
    os.environ.setdefault("HF_HOME", "hub")  # one of the tools builds paths with it
    prompts = record_lmms_eval(Path(given.lmms_eval[0])) + record_vlmevalkit(
        Path(given.vlmevalkit[0])
    )
    commits = {"lmms-eval": given.lmms_eval[1], "vlmevalkit": given.vlmevalkit[1]}
    content = {"commits": commits, "prompts": prompts}
    GOLDEN.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(prompts)} prompts are in {GOLDEN}\n")


if __name__ == "__main__":
    main()
