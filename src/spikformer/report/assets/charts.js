// Charts as SVG, drawn at the width they have, so that text keeps its size on a phone.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children; text is text, never markup.
function make(tag, attributes = {}, children = [], space = null) {
  const element = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...[children].flat());
  return element;
}
const draw = (tag, attributes, children) => make(tag, attributes, children, SVG);

// Round numbers that cover an interval.
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((s) => s * power >= rough * 0.999) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-6; at++) found.push(at * step);
  return found;
}

const compact = (x) => (x === 0 ? "0" : Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5 ? x.toExponential(1) : `${+x.toPrecision(3)}`);
const percent = (x) => `${+(100 * x).toFixed(1)} %`;

// Calls paint(width) now and whenever the place becomes wider or narrower.
function atItsWidth(place, paint) {
  let known = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width && width !== known) paint((known = width));
  }).observe(place);
}

// Lines over a common x axis.
// series: [{name, points: [[x, y, label?]]}]; says: what a reader who sees nothing is told.
function lineChart(place, { title, series, x, y, format = compact, zero = false, whole = true, says }) {
  const figure = make("figure", { class: "chart" }, make("figcaption", {}, title));
  const host = make("div");
  figure.append(host, legend(series));
  place.append(figure);
  const all = series.flatMap((each) => each.points);
  const xs = all.map((p) => p[0]);
  const ys = all.map((p) => p[1]);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const flat = Math.min(...ys) === Math.max(...ys) ? Math.abs(ys[0]) / 20 || 0.5 : 0; // room for ticks
  const yTicks = ticks(zero ? 0 : Math.min(...ys) - flat, Math.max(...ys) + flat);
  const [bottom, top] = [Math.min(yTicks[0], ...ys), Math.max(yTicks.at(-1), ...ys)];
  atItsWidth(host, (width) => {
    const [w, h] = [width - 78, 190];
    const across = (v) => 66 + (right > left ? ((v - left) / (right - left)) * w : w / 2);
    const up = (v) => 10 + h - (top > bottom ? ((v - bottom) / (top - bottom)) * h : h / 2);
    const svg = draw("svg", { viewBox: `0 0 ${width} 248`, height: 248, role: "img", "aria-label": says });
    for (const at of yTicks)
      svg.append(
        draw("line", { x1: 66, x2: 66 + w, y1: up(at), y2: up(at), class: "grid" }),
        draw("text", { x: 60, y: up(at) + 4, "text-anchor": "end" }, format(at)),
      );
    for (const at of ticks(left, right, Math.min(8, Math.max(2, w / 60))).filter((v) => !whole || Number.isInteger(v)))
      svg.append(draw("text", { x: across(at), y: h + 28, "text-anchor": "middle" }, compact(at)));
    svg.append(
      draw("line", { x1: 66, x2: 66 + w, y1: h + 10, y2: h + 10, class: "axis" }),
      draw("text", { x: 66 + w / 2, y: h + 48, "text-anchor": "middle", class: "label" }, x),
      draw("text", { x: -(10 + h / 2), y: 10, "text-anchor": "middle", class: "label", transform: "rotate(-90)" }, y),
    );
    series.forEach((each, n) => svg.append(...lineOf(each, n, across, up, x, format)));
    host.replaceChildren(svg);
  });
}

const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

function lineOf(series, n, across, up, x, format) {
  const color = `stroke: var(--series-${n + 1}); fill: var(--series-${n + 1})`;
  const places = series.points.map(([a, b]) => `${across(a)},${up(b)}`).join(" ");
  const line = draw("polyline", { points: places, class: "line", style: `stroke: var(--series-${n + 1})`, "stroke-dasharray": DASHES[n] });
  const dots = series.points.map(([a, b, label]) =>
    draw("circle", { cx: across(a), cy: up(b), r: 3, style: color }, draw("title", {}, `${series.name}, ${label ?? `${x} ${compact(a)}`}: ${format(b)}`)),
  );
  return series.points.length > 60 ? [line] : [line, ...dots];
}

function legend(series) {
  const styles = ["solid", "dashed", "dotted", "dashed"];
  return make("ul", { class: "legend" }, series.map((each, n) =>
    make("li", {}, [make("i", { style: `--color: var(--series-${n + 1}); --dash: ${styles[n]}` }), each.name])));
}

// Horizontal bars, one a row: [{name, value, shown}].
function barChart(place, { title, rows, says, highest = null }) {
  const figure = make("figure", { class: "chart" }, title ? make("figcaption", {}, title) : []);
  const host = make("div");
  figure.append(host);
  place.replaceChildren(figure);
  const longest = Math.max(...rows.map((row) => row.name.length));
  const most = highest ?? Math.max(...rows.map((row) => row.value), Number.MIN_VALUE);
  atItsWidth(host, (width) => {
    const begin = Math.min(longest * 7 + 10, width * 0.55);
    const room = Math.max(20, width - begin - 96);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${rows.length * 24 + 4}`, height: rows.length * 24 + 4, role: "img", "aria-label": says });
    rows.forEach((row, n) => {
      const length = Math.max(0, (row.value / most) * room);
      const fits = Math.floor((begin - 8) / 6.6);
      const name = row.name.length > fits ? `…${row.name.slice(1 - fits)}` : row.name;
      svg.append(
        draw("text", { x: begin - 8, y: n * 24 + 17, "text-anchor": "end", class: "label" }, name),
        draw("rect", { x: begin, y: n * 24 + 4, width: length, height: 17, style: "fill: var(--series-1)" }, draw("title", {}, `${row.name}: ${row.shown}`)),
        draw("text", { x: begin + length + 6, y: n * 24 + 17 }, row.shown),
      );
    });
    host.replaceChildren(svg);
  });
}
