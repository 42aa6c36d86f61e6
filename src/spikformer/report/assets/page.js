// Puts everything in its place.

function toggleTheme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const dark = () => {
    const chosen = root.style.colorScheme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const show = () => {
    button.textContent = dark() ? "Light" : "Dark";
    repaint();
  };
  button.addEventListener("click", () => {
    root.style.colorScheme = dark() ? "light" : "dark";
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

// Numbers by their value, all else by its letters.
function sortBy(table, column, downwards) {
  const body = table.tBodies[0];
  const key = (row) => row.cells[column].textContent.trim();
  const number = (text) => Number(text.replace(/[,%\s]/g, ""));
  const rows = [...body.rows];
  const numeric = rows.every((row) => key(row) === "–" || (key(row) !== "" && !Number.isNaN(number(key(row)))));
  const value = (row) => (key(row) === "–" ? -Infinity : number(key(row)));
  rows.sort((a, b) => (numeric ? value(a) - value(b) : key(a).localeCompare(key(b), "en", { numeric: true })));
  if (downwards) rows.reverse();
  body.append(...rows);
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const downwards = head.ariaSort === "ascending";
      for (const other of heads) other.ariaSort = "none";
      head.ariaSort = downwards ? "descending" : "ascending";
      sortBy(table, column, downwards);
    });
  });
}

function showCurves({ columns, rows }) {
  const place = document.getElementById("curve-charts");
  const charts = [
    ["Loss", "cross-entropy", ["train_loss", "validation_loss", "test_loss"], compact],
    ["Accuracy", "top-1", ["validation_top1", "test_top1"], percent],
    ["Firing rate in training", "spikes per neuron per step", ["firing_rate"], compact],
    ["Learning rate", "learning rate", ["lr"], compact],
  ];
  for (const [title, y, names, format] of charts) {
    const series = names.filter((name) => columns.includes(name)).map((name) => ({
      name: name.replaceAll("_", " ").replace("top1", "top-1").replace(/^lr$/, "learning rate"),
      points: rows.map((row) => [row[columns.indexOf("epoch")], row[columns.indexOf(name)]]).filter((p) => p[1] !== null),
    }));
    const ends = series.map((each) => `${each.name} ${format(each.points.at(-1)[1])}`).join(", ");
    if (series.length) lineChart(place, { title, series, x: "epoch", y, format, says: `${title} by epoch; at the end ${ends}` });
  }
}

function showEnergy({ conventions, operations, neurons, unit, per_mj }) {
  const shown = (x) => `${+x.toPrecision(4)} ${unit}`;
  const bars = conventions.map((each) => ({ name: each.name, value: each.energy_mj * per_mj, shown: shown(each.energy_mj * per_mj) }));
  barChart(document.getElementById("energy-bars"), {
    title: `Energy of one image by convention, ${unit}`,
    rows: bars,
    says: bars.map((row) => `${row.name} ${row.shown}`).join(", "),
  });
  const select = document.getElementById("convention");
  fill(select, conventions.map((each) => each.name));
  const paint = () => {
    const { name } = conventions[select.value || 0];
    const rows = [...operations, { ...neurons, layer: "all neurons" }].map((row) => {
      const value = row[`${name}_pj`] * 1e-9 * per_mj;
      return { name: row.layer, value, shown: shown(value) };
    });
    barChart(document.getElementById("layer-bars"), {
      title: `Energy of one image by layer, ${name}, ${unit}`,
      rows,
      says: rows.map((row) => `${row.name} ${row.shown}`).join(", "),
    });
  };
  select.addEventListener("input", paint);
  paint();
}

function showAnytime({ top1, confidence, thresholds, exit_top1, exit_steps, energy_mj }, { unit, per_mj }) {
  const place = document.getElementById("anytime-charts");
  const bySteps = (values) => values.map((value, t) => [t + 1, value]);
  lineChart(place, {
    title: "Accuracy by step",
    series: [{ name: "top-1", points: bySteps(top1) }, { name: "mean probability of the answer", points: bySteps(confidence) }],
    x: "steps", y: "share", format: percent,
    says: `Accuracy by step: ${top1.map((v, t) => `${t + 1}: ${percent(v)}`).join(", ")}`,
  });
  lineChart(place, {
    title: "Leaving early: accuracy by mean steps",
    series: [{ name: "each point a threshold", points: exit_steps.map((s, n) => [s, exit_top1[n], `threshold ${thresholds[n]}, ${s.toFixed(2)} steps`]) }],
    x: "mean steps", y: "top-1", format: percent, whole: false,
    says: `Leaving early: ${thresholds.map((v, n) => `threshold ${v}: ${percent(exit_top1[n])} in ${exit_steps[n].toFixed(2)} steps`).join(", ")}`,
  });
  const names = ["spikformer", "spikformer-strict", "neurobench"].filter((name) => energy_mj[name]);
  lineChart(place, {
    title: `Energy by step, ${unit}`,
    series: names.map((name) => ({ name, points: bySteps(energy_mj[name].map((e) => e * per_mj)) })),
    x: "steps", y: unit, zero: true,
    says: names.map((name) => `${name}: ${energy_mj[name].map((e) => compact(e * per_mj)).join(", ")} ${unit}`).join("; "),
  });
}

const data = JSON.parse(document.getElementById("data").textContent);
document.querySelectorAll("table.sortable").forEach(makeSortable);
showCurves(data.curves);
showEnergy(data.energy);
showAnytime(data.anytime, data.energy);
showRasters(data.explorer);
showAttention(data.explorer);
// In the browser's console: report.drawing.run(pixels) gives every spike of an image.
globalThis.report = { data, drawing: showDrawing(data.network, data.examples) };
toggleTheme();
