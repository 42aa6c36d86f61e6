"""The page as text: what it holds, and what it must not."""

import copy
import html
import json
import re
from html.parser import HTMLParser

import pytest

from spikformer.cli import main
from spikformer.errors import ConfigError, DataError
from spikformer.report.collect import collect
from spikformer.report.page import MOST_BYTES, render, write_report
from spikformer.training.evaluation import evaluate

NASTY = '</script><script>hacked=1</script><b title="\'">&'


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of `body` outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_is_one_file_that_loads_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    loads = [
        (tag, attributes)
        for tag, attributes in Tags(text).tags
        for name in ("src", "href", "srcset", "data", "action", "poster")
        if (value := attributes.get(name)) and not value.startswith(("#", "data:"))
    ]
    assert loads == []
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    for call in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon"):
        assert call not in text
    assert "default-src 'none'" in text


def test_pictures_have_alternatives_and_controls_have_labels(page):
    tags = Tags(page.read_text(encoding="utf-8")).tags
    labelled = {attributes.get("for") for tag, attributes in tags if tag == "label"}
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    controls = [a["id"] for tag, a in tags if tag in ("input", "select")]
    assert controls
    assert set(controls) <= labelled
    identities = [a["id"] for _, a in tags if "id" in a]
    assert len(identities) == len(set(identities))


def test_names_appear_as_text(run, found):
    nasty = copy.deepcopy(found)
    nasty["confusion"]["classes"][0] = NASTY
    nasty["explorer"]["images"][0]["name"] = NASTY
    nasty["network"]["classes"][0] = NASTY
    nasty["run"]["settings"][NASTY] = NASTY
    text = render(nasty)
    assert NASTY not in text
    assert html.unescape(NASTY) in Tags(text).text
    assert run.path.name not in text
    assert run.path.name in Tags(text).text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["explorer"]["images"][0]["name"] == NASTY


def test_the_page_says_what_was_trained_and_how(run, found, page):
    text = Tags(page.read_text(encoding="utf-8")).text
    facts = run.facts()
    for fact in (facts["split"], facts["split_hash"], facts["protocol"], facts["hardware"]):
        assert fact in text
    assert f"{100 * found['run']['top1']:.2f} %" in text
    assert "The conventions answer different questions" in text
    for version in facts["versions"].values():
        assert version in text


def test_numbers_agree_with_the_evaluation(run, found):
    whole = evaluate(run.path)
    assert found["run"]["top1"] == whole.top1
    assert found["anytime"]["top1"] == pytest.approx(whole.by_step, abs=1e-12)
    counts = found["confusion"]["counts"]
    assert sum(map(sum, counts)) == 540
    assert sum(counts[k][k] for k in range(10)) / 540 == pytest.approx(whole.top1)
    assert found["mistakes"]["wrong"] == round(540 * (1 - whole.top1))
    for row in found["rates"]["layers"]:  # in float32, batches of another size may flip a spike
        assert row["mean"] == pytest.approx(whole.firing_rates[row["layer"]], abs=1e-4)


def test_rates_of_heads_make_up_those_of_their_layer(found):
    rates = found["rates"]
    assert [row["part"] for row in rates["by_head"]] == ["queries", "keys", "values"] * 2
    for n, block in enumerate(("blocks.0", "blocks.1")):
        heads = [rate for row in rates["by_head"][3 * n : 3 * n + 3] for rate in row["rates"]]
        (mean,) = (r["mean"] for r in rates["layers"] if r["layer"] == f"{block}.attention.qkv")
        assert sum(heads) / len(heads) == pytest.approx(mean)


def test_energy_of_all_layers_is_the_energy_of_the_network(found):
    energy = found["energy"]
    for each in energy["conventions"]:
        name = f"{each['name']}_pj"
        layers = sum(row[name] for row in energy["operations"]) + energy["neurons"][name]
        assert layers * 1e-9 == pytest.approx(each["energy_mj"])
        assert found["anytime"]["energy_mj"][each["name"]][-1] == each["energy_mj"]
        assert each["question"]


def test_many_classes_have_no_matrix_but_their_confusions(found):
    many = found | {"confusion": found["confusion"] | {"counts": None}}
    text = Tags(render(many)).text
    assert "What is confused most" in text
    assert "is \\ says" not in text


def test_a_network_without_maps_says_so(found):
    without = found | {"explorer": found["explorer"] | {"blocks": []}}
    assert "not one that maps can be made of" in Tags(render(without)).text


def test_an_evaluation_of_other_weights_is_made_anew(run):
    path = run.path / "evaluation-test.json"
    stale = json.loads(path.read_text())
    stale["top1"], stale["facts"]["epoch"] = 0.123, 99
    path.write_text(json.dumps(stale))
    assert collect(run.path, samples=10)["run"]["top1"] != 0.123
    assert json.loads(path.read_text())["facts"]["epoch"] != 99
    path.write_text("[]")
    with pytest.raises(DataError, match="is no evaluation"):
        collect(run.path, samples=10)
    path.unlink()


def test_what_cannot_be_reported_is_one_sentence(run, tmp_path):
    with pytest.raises(ConfigError, match="samples must be at least 1, got 0"):
        write_report(run.path, samples=0)
    with pytest.raises(DataError, match=r"has no run\.json"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="is a file: a report is about the folder of a run"):
        write_report(run.best)
    record = run.facts()
    record["recipe"]["trainer"]["epochs"] = 9
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "curve.csv").write_bytes(run.curve.read_bytes())
    with pytest.raises(DataError, match="is not finished, 1 of 9 epochs: go on with spikformer"):
        write_report(tmp_path)


def test_the_command_writes_a_page_and_figures(run, tmp_path, capsys):
    out, figures = tmp_path / "page.html", tmp_path / "figures"
    words = ["--out", str(out), "--samples", "40", "--figures", str(figures)]
    assert main(["report", str(run.path), *words]) == 0
    said = capsys.readouterr()
    assert said.out == f"written: {out}\ndrawn: {figures}\n"
    assert "40 test images of 540, evenly spaced" in Tags(out.read_text()).text
    names = ("anytime", "confusion", "curves", "energy", "rates")
    assert {path.name for path in figures.iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("svg", "pdf")
    }
    assert "spikes per neuron per step" in (figures / "rates.svg").read_text()
    assert (figures / "energy.pdf").read_bytes().startswith(b"%PDF")


def test_without_the_extra_the_command_says_how_to_get_it(run, monkeypatch, capsys):
    monkeypatch.setattr("spikformer.cli.report.find_spec", lambda _name: None)
    assert main(["report", str(run.path)]) == 2
    assert "pip install 'spikformer[report]'" in capsys.readouterr().err
