"""Findings: verdicts follow from the figures, interrupted runs go on, the shipped records hold."""

import json

import pytest

from minit2i import findings
from minit2i.findings import NAMES, Claim, Finding, get, load, measure

SEEDS = (0, 1, 2)


def toy(calls=None, fail_at=None):
    def run(arm, seed):
        if calls is not None:
            calls.append((arm, seed))
        if fail_at == (arm, seed):
            raise KeyboardInterrupt
        return {"error": {"new": 1.0, "old": 2.0}[arm] + 0.01 * seed, "speed": 5.0 + seed}

    claims = (
        Claim("new errs less", "error", "new", "old", "lower", 0.5),
        Claim("new errs more", "error", "new", "old", "higher"),
        Claim("new errs much less", "error", "new", "old", "lower", 3.0),
        Claim("old is faster than 5.5", "speed", "old", 5.5, "higher"),
    )
    return Finding("toy", "99", "which errs less?", ("new", "old"), SEEDS, run, claims)


def test_verdicts(tmp_path):
    runs = list(measure(toy(), folder=tmp_path))
    record = json.loads((tmp_path / "toy.json").read_text())
    assert record["runs"] == runs and len(runs) == 6
    assert [c["verdict"] for c in record["claims"]] == ["reproduced", "opposite", "open", "open"]
    assert record["claims"][0]["advantage"] == [1.0, 1.0, 1.0]
    assert record["claims"][3]["advantage"] == [-0.5, 0.5, 1.5]
    assert record["command"] == "python -m minit2i finding toy"
    assert [p.name for p in tmp_path.iterdir()] == ["toy.json"]


def test_an_interrupted_finding_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        list(measure(toy(fail_at=("old", 1)), folder=tmp_path))
    calls = []
    runs = list(measure(toy(calls), resume=True, folder=tmp_path))
    assert calls == [("old", 1), ("new", 2), ("old", 2)]
    assert [run["seed"] for run in runs] == [0, 0, 1, 1, 2, 2]  # a bar counts the kept ones too
    calls.clear()
    list(measure(toy(calls), folder=tmp_path))
    assert len(calls) == 6


def test_a_damaged_record_says_what_to_do(tmp_path):
    (tmp_path / "toy.partial.json").write_text('[{"arm": "n')
    with pytest.raises(ValueError, match=r"is damaged .*: delete it, or measure without --resume"):
        next(measure(toy(), resume=True, folder=tmp_path))
    (tmp_path / f"{NAMES[0]}.json").write_text("{")
    with pytest.raises(ValueError, match=f"is damaged .*python -m minit2i finding {NAMES[0]}"):
        load(NAMES[0], tmp_path)


def test_a_folder_in_the_way_is_noticed_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    calls = []
    with pytest.raises(ValueError, match="cannot write to"):
        next(measure(toy(calls), folder=tmp_path / "file"))
    assert calls == []


def test_unknown_and_missing(tmp_path):
    with pytest.raises(ValueError, match="unknown finding 'x': choose one of"):
        get("x")
    with pytest.raises(ValueError, match=f"python -m minit2i finding {NAMES[0]}"):
        load(NAMES[0], tmp_path)
    with pytest.raises(ValueError, match="'lower' or 'higher'"):
        Claim("", "", "", "", "above")


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_record_is_that_of_the_finding(name):
    record, finding = load(name), get(name)
    assert record["name"] == finding.name == name
    assert {(r["arm"], r["seed"]) for r in record["runs"]} == {
        (arm, seed) for arm in finding.arms for seed in finding.seeds
    }
    assert record["claims"] == [claim.verdict(record["runs"]) for claim in finding.claims]


def test_every_record_belongs_to_a_finding():
    assert {p.stem for p in findings.FOLDER.glob("*.json")} == set(NAMES)


def test_the_data_card_tells_todays_verdicts():
    from tools.findings_table import table

    card = (findings.FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert table() in card, "data/README.md is out of date: python tools/findings_table.py"
