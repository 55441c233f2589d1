"""The model card: what an ensemble was chosen from, what to expect of it, and what it is not for."""

from collections.abc import Mapping, Sequence
from typing import Any

ENCODER_WORDS = {
    "pooled": "",
    "dan": " with cross attention",
    "deviation": " against its frozen twin",
    "two_branch": " beside {appearance_backbone}",
}
"""What stands around a backbone, by its design's encoder."""


def full_card(
    card: str, *, classes: Sequence[str], networks: Sequence[Mapping[str, Any]], with_onnx: bool = False
) -> str:
    """The whole card as Markdown.

    Args:
        card: the part about this ensemble's making.
        classes: names.
        networks: entries of members.json.
        with_onnx: whether an ONNX graph stands beside.
    """
    rows = [
        f"| {entry['file']} | {_built(entry)} | {entry['weight']:.3f} | {entry['table_px']} px, "
        f"{'grey' if entry['channels'] == 1 else 'RGB'}, seen at {entry['image_px']} px"
        f"{', with their mirror images' if entry['mirror'] else ''}"
        f"{', moved by ' + str(entry['shift_px']) + ' px each way too' if entry['shift_px'] else ''} |"
        for entry in networks
    ]
    return "\n".join(
        [
            "# Facial-expression ensemble",
            "",
            card.strip(),
            "",
            "## What it does",
            "",
            f"Takes encoded images of one face each and returns one of {len(classes)} expressions with the probability "
            f"of each: {', '.join(classes)}.",
            "",
            "| network | backbone | share of the vote | images are decoded to |",
            "|---|---|---|---|",
            *rows,
            "",
            *_hand_note(networks),
            "## How to use it",
            "",
            "```python",
            "import mlflow, pandas",
            "",
            'model = mlflow.pyfunc.load_model("THIS FOLDER")',
            'print(model.predict(pandas.DataFrame({"image": [open("face.jpg", "rb").read()]})))',
            "```",
            "",
            "It needs what `requirements.txt` names, and nothing of affectune. Loading it needs no pickle.",
            *_graph_note(with_onnx),
            "",
            "## Intended use and limits",
            "",
            "- For research on facial expressions, on images cropped to one face, like those it was trained on.",
            "- It names the expression a face shows, not what a person feels. Do not use it to decide about people.",
            "- Its score holds for faces like those it was judged on; other cameras, ages and cultures need a test of "
            "their own (`affectune evaluate`).",
            "- The probabilities are averages of networks; how far to trust them stands under Calibration, if it was "
            "measured.",
            "",
        ]
    )


def _graph_note(with_onnx: bool) -> list[str]:
    """How the graph is fed."""
    if not with_onnx:
        return []
    return [
        "",
        "`ensemble.onnx` is the same as one graph: it takes `images`, uint8 [n, height, width, 3] in RGB, all of a "
        "batch of one size, and gives `probabilities` [n, classes] and `label` [n]. It needs onnxruntime and NumPy.",
    ]


def _hand_note(networks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a hand rule does to the estimate."""
    if not any(entry.get("hand_rule") for entry in networks):
        return []
    return [
        "Where a trial tuned its hand rule (`hand.rule`), it did so on the faces that the ensemble was chosen by, and "
        "the estimate above does not repeat that: take it as somewhat too good.",
        "",
    ]


def _built(entry: Mapping[str, Any]) -> str:
    """A network's backbones in words, and the hand rule that may change its answer."""
    design, rule = entry.get("design", {}), entry.get("hand_rule")
    cut = f" up to stride {design['stride']}" if design.get("stride") else ""
    words = str(entry["backbone"]) + cut + ENCODER_WORDS[design.get("encoder", "pooled")].format(**design)
    if not rule:
        return words
    seen = f"a hand, seen by {design['hand_backbone']} with {rule['threshold']:.3g} or more, makes it {rule['target']}"
    return f"{words}; {seen}" + (f", unless it is {' or '.join(rule['exceptions'])}" if rule["exceptions"] else "")
