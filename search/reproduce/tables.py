"""What a paper's table is: its rows with the published figures, and what each row is here. Data, read from YAML."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from spaces.errors import UsageError, near_miss
from spaces.yaml_text import read_yaml

PAPERS_DIR = Path(__file__).parent / "papers"


class Definition(BaseModel):
    """A part of a table: frozen, and deaf to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Train(Definition):
    """A row that is a trial.

    Attributes:
        settings: over the table's own; `loss.class_weights` may map class names to weights, other classes get 1.
        labelled: optional label to settings that are taken where the face table has that label.
        start: whether the row goes on from the model of --start: never, if there is one, or not without.
        joint_start: whether that model must have joint heads for valence and arousal.
        started: settings that are taken where it does.
        members: trained on different seeds; read as so many rows and their mean.
        member: number of this one among them, which moves the seed; of several, how many others come before.
    """

    settings: dict[str, Any] = {}
    labelled: dict[str, dict[str, Any]] = {}
    start: Literal["none", "wanted", "needed"] = "none"
    joint_start: bool = False
    started: dict[str, Any] = {}
    members: int = 1
    member: int = 0


class Partner(Definition):
    """A row that is the model of --partner as it is. It must be of a backbone that begins so, joint affect or not."""

    backbone: str
    joint: bool


class Mean(Definition):
    """The mean of rows' probabilities; a mean among them counts as all of its parts."""

    of: tuple[str, ...]


class Blend(Definition):
    """Two rows mixed: w * partner + (1 - w) * fine-tuned.

    Attributes:
        partner: the first of these that there is.
        fine_tuned: a row.
        weight: w; or chosen on the valid faces from 0, 0.1, ..., 1 (grid) or from all there are (exact).
        space: what is mixed.
    """

    partner: tuple[str, ...]
    fine_tuned: str
    weight: float | Literal["grid", "exact"]
    space: Literal["probs", "logits"]


class Hand(Definition):
    """The hand rule over a row: a face with a hand is called `target` unless its class is an exception.

    Attributes:
        of: the first of these rows that there is.
        target: a class.
        threshold: probability of a hand; tuned: the best on the valid faces, with the best exceptions.
        exceptions: classes.
    """

    of: tuple[str, ...]
    target: str
    threshold: float | Literal["tuned"]
    exceptions: tuple[str, ...] = ()


class Units(Definition):
    """A row with a threshold for each action unit, the best of 0.1, ..., 0.9 on the valid faces."""

    of: str


class NotRun(Definition):
    """A row of which only the published figure is shown."""

    reason: str


Source = Train | Partner | Mean | Blend | Hand | Units | NotRun


class Row(Definition):
    """One row.

    Attributes:
        key: names it in a space and in files.
        title: as it is shown.
        published: the paper's figure; None for a row of our own.
        published_also: the paper's figure on its second set of faces.
        note: what to know about it.
        train, partner, mean, blend, hand, units, not_run: what the row is here, one of them.
    """

    key: str
    title: str
    published: float | None = None
    published_also: float | None = None
    note: str = ""
    train: Train | None = None
    partner: Partner | None = None
    mean: Mean | None = None
    blend: Blend | None = None
    hand: Hand | None = None
    units: Units | None = None
    not_run: NotRun | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if len(self._sources()) != 1:
            raise ValueError(f"row must be one thing, got {len(self._sources())}: {self.key}")
        return self

    @property
    def source(self) -> Source:
        """What the row is here."""
        return self._sources()[0]

    def _sources(self) -> list[Source]:
        told = (self.train, self.partner, self.mean, self.blend, self.hand, self.units, self.not_run)
        return [source for source in told if source is not None]


class Table(Definition):
    """One table of a paper.

    Attributes:
        number: in the paper; where the paper has none, 1.
        title: one line.
        preset: space whose default every row starts from.
        faces: the data behind the published figures.
        metric: what is shown.
        metric_words: the paper's metric in words.
        also_faces: the paper's second set, where it has one.
        settings: of all rows, over the preset's.
        remarks: sentences for the page.
        rows: in the paper's order.
    """

    number: str
    title: str
    preset: str
    faces: str
    metric: Literal["macro_f1", "p_mtl"] = "macro_f1"
    metric_words: str
    also_faces: str = ""
    settings: dict[str, Any] = {}
    remarks: tuple[str, ...] = ()
    rows: tuple[Row, ...]

    @property
    def trained(self) -> list[Row]:
        """Rows that are trials."""
        return [row for row in self.rows if row.train]

    def row(self, key: str) -> Row:
        """The row of this key, which is there."""
        return next(row for row in self.rows if row.key == key)


class Paper(Definition):
    """One paper.

    Attributes:
        number: 000 to 004.
        names: other words for it.
        citation: authors, year, title.
        tables: the first is the default.
    """

    number: str
    names: tuple[str, ...]
    citation: str
    tables: tuple[Table, ...]


@cache
def papers() -> tuple[Paper, ...]:
    """All papers, by number."""
    return tuple(_read(path) for path in sorted(PAPERS_DIR.glob("*.yaml")))


def find_table(text: str) -> tuple[Paper, Table]:
    """The table that `001:1`, `1:1`, `paper001` or `hust-ant:3` names; without a number the first of a paper or preset.

    Raises:
        UsageError: there is no such paper or table; the near miss is offered.
    """
    name, _, number = text.strip().partition(":")
    paper = _find_paper(name.strip().casefold())
    numbers = [table.number for table in paper.tables]
    if not number:
        of_preset = (table for table in paper.tables if table.preset == name.strip().casefold())
        return paper, next(of_preset, paper.tables[0])
    if number.strip() not in numbers:
        hint = near_miss(number.strip(), numbers)
        raise UsageError(f"table of paper {paper.number} must be one that can be run, got {number!r}{hint}")
    return paper, paper.tables[numbers.index(number.strip())]


def _find_paper(name: str) -> Paper:
    words = {word: paper for paper in papers() for word in _words(paper)}
    if name not in words:
        hint = near_miss(name, words) if len(name) > 3 else ""
        known = near_miss("", [paper.number for paper in papers()])
        raise UsageError(f"paper must be a known one, got {name!r}{hint if 'did you mean' in hint else known}")
    return words[name]


def _words(paper: Paper) -> tuple[str, ...]:
    presets = (table.preset for table in paper.tables)
    return (paper.number, str(int(paper.number)), f"paper{paper.number}", *paper.names, *presets)


def _read(path: Path) -> Paper:
    document = read_yaml(path.read_text(encoding="utf-8"), where=str(path))
    for table in document["tables"]:
        table["rows"] = [part for row in table["rows"] for part in _with_members(row)]
    return Paper.model_validate(document)


def _with_members(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of several members as a row for each, and the mean of their probabilities in its place."""
    n_members = row.get("train", {}).get("members", 1)
    if n_members == 1:
        return [row]
    before = row["train"].get("member", 0)
    members = [
        {
            "key": f"{row['key']}-{number}",
            "title": f"  member {number}: {row['title']}",
            "train": {**row["train"], "members": 1, "member": before + number},
        }
        for number in range(1, n_members + 1)
    ]
    mean = {name: value for name, value in row.items() if name != "train"}
    return [*members, {**mean, "mean": {"of": [member["key"] for member in members]}}]
