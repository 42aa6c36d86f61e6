"""The page in a browser: nothing complained about, everything answers."""

import copy

import pytest
import torch

from spikformer.models import load_model
from spikformer.probe import attention_maps, recorded
from spikformer.report.page import render
from spikformer.training.evaluation import find_subject

NASTY = "</script><script>hacked=1</script><img src=x onerror=hacked=1>"
READER = """
globalThis.redOf = (canvas) => {
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, width, height).data].filter((_, n) => n % 4 === 0);
};
0
"""
CONTRASTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "#000" : "#fff");
  };
  document.querySelectorAll("details").forEach((d) => (d.open = true));
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length || e.disabled) continue;
    const inSvg = e.namespaceURI.endsWith("svg");
    const style = getComputedStyle(e);
    const pair = [light(rgba(inSvg ? style.fill : style.color)), light(behind(e))].sort();
    found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), walk.currentNode.data]);
  }
  return found;
})()
"""


@pytest.fixture(autouse=True)
def _nothing_to_complain_about(opened):
    yield
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []


def test_it_opens_from_disk_and_shows_everything(opened):
    assert opened.run("document.querySelectorAll('.chart svg').length") >= 9
    assert opened.run("document.documentElement.scrollWidth <= innerWidth")
    assert opened.run("typeof hacked") == "undefined"
    named = "[...document.querySelectorAll('[role=img]')].every(e => e.ariaLabel)"
    assert opened.run(named)


def pixels_of(tab, canvas):
    return tab.run(f"document.getElementById('{canvas}').toDataURL()")


def test_sliders_move_the_map_by_keyboard(opened):
    opened.run("(heads.value = 1, query.value = 1, query.dispatchEvent(new Event('input')))")
    for slider, key in (("step", "ArrowLeft"), ("query", "ArrowRight")):
        opened.center(f"#{slider}")
        opened.run(f"document.getElementById('{slider}').focus()")
        before = pixels_of(opened, "overlay"), opened.run(f"{slider}.value")
        opened.press(key)
        opened.still()
        assert pixels_of(opened, "overlay") != before[0]
        assert opened.run(f"{slider}.value") != before[1]
    says = opened.run("document.getElementById('attention-says').textContent")
    assert says.startswith("Token at row 1, column 2 attends")
    assert says == opened.run("document.getElementById('overlay').ariaLabel")


def test_the_map_is_the_one_that_python_found(opened, found, run):
    """Colours lie between the panel's and the accent's, by the share of the largest count."""
    subject = find_subject(run.path, data=None, root=None, split="test")
    number = int(found["explorer"]["images"][0]["name"].split(":")[0].removeprefix("test "))
    image = subject.pixels(subject.data.test.images[torch.tensor([number])])
    known = attention_maps(load_model(subject.weights), image)["blocks.1.attention"][:, 0]
    opened.run("(heads.value = 3, block.value = 1, query.value = 0)")
    opened.run(READER)
    panel, accent = 0xF5, 0x0B
    for step, counts in enumerate(known[:, 2], 1):
        opened.run(f"(step.value = {step}, step.dispatchEvent(new Event('input')))")
        seen = torch.tensor(opened.run("redOf(map)"))
        shares = (panel - seen.view(16, 16)) / (panel - accent)
        most = counts.max().clamp(min=1)
        torch.testing.assert_close(shares, counts / most, rtol=0, atol=1 / 200)
    assert len({step.sum().item() for step in known[:, 2]}) > 1
    opened.run("(block.value = 2, block.dispatchEvent(new Event('input')))")
    assert opened.run("document.getElementById('map-figure').hidden")
    assert opened.run("document.getElementById('attention-says').textContent").startswith("Rollout")


def test_a_click_on_the_image_chooses_the_query(opened):
    opened.run("(block.value = 0, block.dispatchEvent(new Event('input')))")
    x, y, width, height = opened.center("#overlay")
    opened.drag([(x + width * 0.6, y + height * 0.3)])
    assert opened.run("query.value") == "7"  # row 2, column 3 of 4


def test_tables_sort_up_and_down_and_say_so(opened):
    opened.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    head = "#operations th:nth-child(5)"
    values = (
        "[...document.querySelectorAll('#operations tbody td:nth-child(5)')]"
        ".map(c => Number(c.textContent.replaceAll(',', '')))"
    )
    state = f"document.querySelector('{head}').ariaSort"
    assert opened.run(state) == "none"
    opened.click(f"{head} button")
    assert opened.run(state) == "ascending"
    assert opened.run(values) == sorted(opened.run(values))
    opened.run(f"document.querySelector('{head} button').focus()")
    opened.press("Enter", text="\r")
    assert opened.run(state) == "descending"
    assert opened.run(values) == sorted(opened.run(values), reverse=True)
    opened.click("#operations th:first-child button")
    assert opened.run(state) == "none"
    assert opened.run("document.querySelectorAll('#operations [aria-sort=ascending]').length") == 1


def test_drawing_with_mouse_finger_and_keys(opened):
    ink = "report.drawing.pixels.reduce((a, b) => a + b)"
    opened.click("#clear")
    assert opened.run(ink) == 0
    x, y, width, height = opened.center("#pad")
    stroke = [(x + width / 2, y + height * share) for share in (0.1, 0.5, 0.9)]
    opened.drag(stroke)
    opened.still()
    with_mouse = opened.run(ink)
    assert with_mouse > 255 * 12
    assert opened.run("answer.textContent").startswith("After step 4: ")
    opened.click("#clear")
    assert opened.run(ink) == 0
    x, y, width, height = opened.center("#pad")
    opened.touch([(x + width / 2, y + height * share) for share in (0.1, 0.5, 0.9)])
    opened.still()
    assert opened.run(ink) == with_mouse
    opened.click("#clear")
    opened.run("pad.focus()")
    opened.press(" ", "Space")
    opened.press("ArrowRight")
    opened.press(" ", "Space")
    assert opened.run(ink) > 255


def test_what_is_drawn_fires_as_in_pytorch(opened, run):
    opened.click("#clear")
    x, y, width, height = opened.center("#pad")
    circle = torch.linspace(0, 6.28, 12)
    opened.drag(
        [
            (x + width * (0.5 + 0.25 * a.cos().item()), y + height * (0.5 + 0.35 * a.sin().item()))
            for a in circle
        ]
    )
    opened.still()
    drawn = torch.tensor(opened.run("[...report.drawing.pixels]"), dtype=torch.uint8)
    spikes = opened.run(
        "Object.entries(report.drawing.now().spikes).map(([n, x]) => [n, x.map(s => [...s])])"
    )
    subject = find_subject(run.path, data=None, root=None, split="test")
    model = load_model(subject.weights).double()
    known = recorded(model, subject.pixels(drawn.view(1, 1, 16, 16)).double())
    assert {layer for layer, _ in spikes} == set(known)
    for layer, steps in spikes:
        assert torch.equal(torch.tensor(steps).double(), known[layer][:, 0].flatten(1))
    best = model(subject.pixels(drawn.view(1, 1, 16, 16)).double()).argmax().item()
    assert opened.run("answer.textContent").startswith(f"After step 4: {best}, ")


def test_examples_load_and_steps_play(opened):
    opened.click("#examples button:nth-child(4)")
    assert opened.run("report.drawing.pixels.some(p => p > 0)")
    opened.click("#play")
    assert opened.run("document.getElementById('draw-step').value") == "1"
    assert opened.run("answer.textContent").startswith("After step 1: ")
    opened.click("#play")
    assert opened.run("play.textContent") == "Play"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(opened, scheme):
    opened.scheme(scheme)
    opened.still()
    found = opened.run(CONTRASTS)
    assert len(found) > 500
    dim = [pair for pair in found if pair[0] < 4.5]
    assert dim == []


def test_the_readers_choice_beats_the_systems(opened):
    opened.scheme("dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = opened.run(background)
    opened.click("#theme")
    assert opened.run("theme.textContent") == "Dark"
    assert opened.run(background) != dark
    opened.click("#theme")
    assert opened.run(background) == dark


def test_it_fits_a_phone(opened):
    opened.size(390, 844, mobile=True)
    opened.still()
    assert opened.run("document.documentElement.scrollWidth") == 390
    small = (
        "[...document.querySelectorAll('main > section > .controls button, select, #clear, #play')]"
        ".filter(e => e.getClientRects().length && e.getBoundingClientRect().height < 24).length"
    )
    assert opened.run(small) == 0
    opened.size(1200, 900)


def test_hostile_names_stay_text(browser, found, tmp_path):
    nasty = copy.deepcopy(found)
    nasty["run"]["name"] = nasty["confusion"]["classes"][0] = NASTY
    nasty["explorer"]["images"][0]["name"] = nasty["network"]["classes"][0] = NASTY
    nasty["energy"]["operations"][0]["layer"] = nasty["explorer"]["layers"][0]["layer"] = NASTY
    path = tmp_path / "nasty.html"
    path.write_text(render(nasty), encoding="utf-8")
    tab = browser.page()
    tab.open(path)
    tab.wait("!!globalThis.report")
    assert tab.run("typeof hacked") == "undefined"
    assert tab.run("document.querySelector('h1').textContent") == NASTY
    assert tab.run("document.querySelector('#image option').textContent").startswith(NASTY)
    assert tab.complaints == []
