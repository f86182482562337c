"""What makes it unfair to compare runs."""

from collections.abc import Sequence

from danet_lightning.runs.grouping import Group
from danet_lightning.runs.overview import listed

NOTES = {
    "protocols": "The protocols differ, so the mIoUs are not of the same thing",
    "classes": "The classes differ, so means over them are not of the same thing",
    "data": "The images or labels differ",
    "commits": "The commits differ",
    "versions": "The versions differ",
    "machines": "The machines differ, so times are not comparable",
}


def warnings(groups: Sequence[Group]) -> list[str]:
    """Say what makes it unfair to compare these runs, in a sentence each."""
    runs = [run for group in groups for run in group.scored]
    sentences = []
    facts: dict[str, list[str]] = {
        "protocols": [listed(run.results.get("protocol", {})) for run in runs],
        "classes": [", ".join(run.classes) for run in runs],
        "data": [listed(run.results.get("data", {})) for run in runs],
        "commits": [run.results.get("git_commit") or "not known" for run in runs],
        "versions": [listed(run.results.get("versions", {})) for run in runs],
        "machines": [listed(run.results.get("machine", {})) for run in runs],
    }
    for name, values in facts.items():
        who: dict[str, list[str]] = {}
        for run, value in zip(runs, values, strict=True):
            if value or name != "data":  # a run of an older version tells nothing of its data
                who.setdefault(value, []).append(run.path.absolute().name)
        if len(who) > 1:
            parts = zip(_parts(list(who)), map(_some, who.values()), strict=True)
            variants = [f"{text} ({names})" for text, names in parts]
            sentences.append(f"{NOTES[name]}: {' / '.join(variants[:4])}")
    if any(commit.endswith("+changes") for commit in facts["commits"]):
        sentences.append(
            "Some runs had changes that were not committed, so their code is not known."
        )
    partial = [run.path.absolute().name for run in runs if run.results.get("partial")]
    if partial:
        names = "all runs" if len(partial) == len(runs) else _some(partial)
        sentences.append(f"Only a part of the split was evaluated: {names}")
    for group in groups:
        seeds = [run.seed for run in group.scored if run.seed is not None]
        twice = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
        if twice:
            sentences.append(f"{group.name}: several runs have the same seed, {', '.join(twice)}.")
    return sentences


def _some(names: Sequence[str]) -> str:
    """Name two runs, and say how many there are beside."""
    return ", ".join([*names[:2], *([f"{len(names) - 2} more"] if len(names) > 2 else [])])


def _parts(texts: Sequence[str]) -> list[str]:
    """Leave out of comma-separated texts what all of them have."""
    parts = [text.split(", ") for text in texts]
    common = set.intersection(*map(set, parts))
    return [", ".join(each for each in part if each not in common) or "none" for part in parts]
