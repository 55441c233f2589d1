"""Ensembles and exported models in Python: what to expect of them, and what they say of faces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from search.evaluate import LoadedEnsemble
    from search.evaluation import Evaluation
    from search.report.canvas import Drawing


@dataclass(frozen=True)
class Ensemble:
    """What the final job chose, and what to expect of it.

    Attributes:
        folder: of the search.
        document: the content of ensemble.json.
    """

    folder: Path
    document: Mapping[str, Any] = field(repr=False)

    @property
    def members(self) -> dict[str, float]:
        """Who votes, with its weight."""
        return {str(each["member"]): float(each["weight"]) for each in self.document["members"]}

    def scores(self) -> "pd.DataFrame":
        """Default, best trial, plain average and ensemble: the macro-F1 to expect, on the sealed test, chosen by.

        Returns:
            A row each: `estimate` (what to expect, with its 90 % interval `low` to `high`), `test` where the table
            has a sealed test, and `valid`, by which was chosen.
        """
        import pandas as pd

        from search.comparison import ROWS

        rows = {}
        for key in (key for key in ROWS if key in self.document["scores"]):
            row = self.document["scores"][key]
            low, high = row.get("estimate_interval") or (None, None)
            rows[key] = {"estimate": row.get("estimate"), "low": low, "high": high}
            rows[key] |= {"test": row.get("test"), "valid": row.get("valid")}
        return pd.DataFrame.from_dict(rows, orient="index")

    def figures(self) -> "dict[str, Drawing]":
        """How it blends, how it is made up and how well it is calibrated, by the figures' names."""
        from search.report.ensemble_part import draw_ensemble

        return {drawing.name: drawing for drawing in draw_ensemble(self.document)}

    def export(
        self,
        out: Path | str,
        *,
        replace: bool = False,
        format: Literal["pyfunc", "onnx"] = "pyfunc",
        max_ms: float | None = None,
        max_mb: float | None = None,
        max_members: int | None = None,
        licence: str = "",
        register: str = "",
    ) -> "Model":
        """Write it as an artifact.

        Args:
            out: a new or empty folder.
            replace: whether `out` may be an earlier export, which makes room.
            format: `onnx` adds one graph of all.
            max_ms: milliseconds an image, max_mb: megabytes of weights, max_members: of the ensemble that is written:
                the best that keeps within them.
            licence: of the faces, for the model card.
            register: also as a version of this model in MLflow's registry.

        Raises:
            SearchError: a member's weights are gone.
            EnsembleError: none keeps within the limits.
            OutputError: `out` already holds something, or the disk is full.
        """
        from search.folder import SearchFolder
        from search.folder_lock import only_driver
        from search.handover import ExportOrder, export_search
        from search.options import Limits

        order = ExportOrder(
            limits=Limits(ms=max_ms, megabytes=max_mb, members=max_members),
            register=register,
            replace=replace,
            with_onnx=format == "onnx",
            licence=licence,
        )
        folder = SearchFolder(self.folder)
        with only_driver(folder):
            return Model(str(export_search(folder, Path(out), order).path))


@dataclass(frozen=True)
class Model:
    """An exported ensemble.

    Attributes:
        place: its folder, or MLflow's URI of it.
    """

    place: str

    @cached_property
    def _loaded(self) -> "LoadedEnsemble":
        from search.evaluate import load_ensemble

        return load_ensemble(self.place)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the probabilities."""
        return self._loaded.classes

    def predict(self, images: "Sequence[Path | str | bytes] | NDArray[np.uint8]") -> "pd.DataFrame":
        """Name the expression in images.

        Args:
            images: files, encoded pictures as bytes, or faces as an array, uint8 [n, px, px, 1 or 3].

        Returns:
            A row an image, in their order: `expression`, its `probability`, and one column of probabilities a class.
            Rows of files have their names.

        Raises:
            ModelError: there is no such model.
            DataError: an image can't be read.
        """
        import numpy as np
        import pandas as pd

        if isinstance(images, np.ndarray):
            probs, index = self._loaded.predict_decoded(images), None
        else:
            probs = self._probs_of(images)
            index = [str(each) for each in images] if all(isinstance(each, Path | str) for each in images) else None
        best = probs.argmax(axis=1)
        table: dict[str, Any] = {"expression": [self.classes[column] for column in best.tolist()]}
        table["probability"] = probs[np.arange(len(best)), best]
        table |= {name: probs[:, column] for column, name in enumerate(self.classes)}
        return pd.DataFrame(table, index=index)

    def _probs_of(self, images: "Sequence[Path | str | bytes]") -> "NDArray[np.float64]":
        from search.evaluate import read_image_file
        from spaces.errors import DataError

        encoded = [image if isinstance(image, bytes) else read_image_file(Path(image)) for image in images]
        probs, unreadable = self._loaded.predict_encoded(encoded)
        if unreadable:
            image = images[unreadable[0]]
            name = f"number {unreadable[0]}" if isinstance(image, bytes) else image
            raise DataError(f"image must be a picture such as JPEG or PNG, got none: {name}")
        return probs

    def evaluate(
        self,
        source: Path | str,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        subject_column: str | None = None,
        classes: Sequence[str] | None = None,
        split: Literal["train", "valid", "test"] | None = None,
    ) -> "Evaluation":
        """Judge it on labelled faces.

        Args:
            source: class folders, Parquet, CSV, or a face table, of which the sealed test split is read.
            image_column, label_column, subject_column: of the source, where it has columns of other names.
            classes: names of labels that are numbers, in their order.
            split: only these rows, where the source tells them.

        Raises:
            ModelError: there is no such model.
            DataError: the source can't be read, or no face in it is of the model's classes.
            UsageError: another split of a face table is named than its sealed test.
        """
        from search.evaluate import evaluate_source, evaluate_table
        from search.named_table import is_table, open_named_table
        from spaces.errors import UsageError
        from trainables.data.columns import ColumnNames
        from trainables.data.sources import read_source

        if is_table(source):
            if split not in (None, "test"):
                raise UsageError(f"split must be test where the source is a face table, got {split}: {source}")
            return evaluate_table(self.place, open_named_table(source))
        columns = ColumnNames(image=image_column, label=label_column, subject=subject_column)
        return evaluate_source(self.place, read_source(Path(source), columns), classes=classes, split=split)


def load_model(place: Path | str) -> Model:
    """An exported ensemble.

    Args:
        place: its folder, or a URI such as models:/faces/1.

    Raises:
        ModelError: there is no model, or none of ours, or it is broken.
    """
    model = Model(str(place))
    model.classes  # noqa: B018 - what is wrong with it is said now
    return model
