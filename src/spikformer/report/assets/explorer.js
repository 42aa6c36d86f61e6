// Rasters and attention maps of single images.

function decodeBytes(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

const colorOf = (name) => {
  const probe = make("i", { style: `color: var(--${name})` });
  document.body.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return [r, g, b];
};

// Calls each painter again when light becomes dark.
const painters = new Set();
function painted(paint) {
  painters.add(paint);
  paint();
}
function repaint() {
  for (const paint of painters) paint();
}

// Values 0 to 1 as pixels between two of the page's colours, one pixel a value.
function paintValues(canvas, values, columns, rows, low = "panel", high = "accent") {
  const [a, b] = [colorOf(low), colorOf(high)];
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let at = 0; at < columns * rows; at++) {
    const share = values[at];
    for (let c = 0; c < 3; c++) image.data[4 * at + c] = a[c] + (b[c] - a[c]) * share;
    image.data[4 * at + 3] = share < 0 ? 0 : 255;
  }
  context.putImageData(image, 0, 0);
}

// A layer's name that may break after its dots.
const breakable = (layer) => layer.replaceAll(".", ".\u200b");

function fill(select, names) {
  select.replaceChildren(...names.map((name, n) => make("option", { value: n }, name)));
}

function showRasters({ images, layers, steps }) {
  const select = document.getElementById("raster-image");
  const place = document.getElementById("rasters");
  fill(select, images.map((image) => image.name));
  const panels = layers.map(({ layer, neurons, shown }) => {
    const canvas = make("canvas", { role: "img" });
    const caption = make("figcaption");
    const ticks = Array.from({ length: steps }, (_, t) => make("span", {}, `${t + 1}`));
    place.append(make("figure", {}, [canvas, make("div", { class: "ticks", "aria-hidden": "true" }, ticks), caption]));
    return { layer, neurons, shown, canvas, caption };
  });
  const paint = () => {
    const image = images[select.value || 0];
    panels.forEach(({ layer, neurons, shown, canvas, caption }, n) => {
      const bytes = decodeBytes(image.raster[n]);
      const bit = (at) => (bytes[at >> 3] >> (7 - (at & 7))) & 1;
      const values = new Float32Array(shown * steps);
      let spikes = 0;
      for (let t = 0; t < steps; t++)
        for (let i = 0; i < shown; i++) spikes += values[i * steps + t] = bit(t * shown + i);
      paintValues(canvas, values, steps, shown);
      caption.textContent = `${breakable(layer)}: ${spikes} spikes; ${shown < neurons ? `${shown} of ${neurons.toLocaleString("en")}` : neurons} neurons`;
      canvas.setAttribute("aria-label", `Raster of ${layer}: ${spikes} spikes of ${shown} neurons in ${steps} steps`);
    });
  };
  select.addEventListener("change", paint);
  painted(paint);
}

// Each row over its sum; a silent query attends to all alike.
function sharesOf(map, tokens) {
  const shares = new Float64Array(map.length);
  for (let i = 0; i < tokens; i++) {
    let sum = 0;
    for (let j = 0; j < tokens; j++) sum += map[i * tokens + j];
    for (let j = 0; j < tokens; j++) shares[i * tokens + j] = sum ? map[i * tokens + j] / sum : 1 / tokens;
  }
  return shares;
}

// What one query looks at, or all of them on average (query 0 means all, 1 the first).
function lookedAt(shares, tokens, query) {
  if (query) return shares.slice((query - 1) * tokens, query * tokens);
  return Float64Array.from({ length: tokens }, (_, j) => {
    let sum = 0;
    for (let i = 0; i < tokens; i++) sum += shares[i * tokens + j];
    return sum / tokens;
  });
}

// Weights of tokens over an image, and the query's frame.
function paintOver(canvas, picture, weights, [rows, columns], query) {
  const size = 288;
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, size, size);
  const [least, most] = [Math.min(...weights), Math.max(...weights)];
  const [h, w] = [size / rows, size / columns];
  weights.forEach((weight, n) => {
    context.fillStyle = `rgba(255, 140, 0, ${0.1 + (most > least ? (0.7 * (weight - least)) / (most - least) : 0)})`;
    context.fillRect((n % columns) * w, Math.floor(n / columns) * h, w, h);
  });
  if (!query) return;
  context.strokeStyle = "#00e5ff";
  context.lineWidth = 4;
  context.strokeRect(((query - 1) % columns) * w + 2, Math.floor((query - 1) / columns) * h + 2, w - 4, h - 4);
}

const placeOf = (token, [, columns]) => `row ${Math.floor(token / columns) + 1}, column ${(token % columns) + 1}`;

function describe(weights, grid) {
  const most = weights.indexOf(Math.max(...weights));
  if (weights[most] - Math.min(...weights) < 1e-9) return "to all alike: nothing fired together";
  return `most to ${placeOf(most, grid)}, ${percent(weights[most])}; uniform would be ${percent(1 / weights.length)}`;
}

function showAttention({ images, blocks, heads, grid, steps, width, spiking }) {
  if (!blocks.length) return;
  const at = Object.fromEntries(["image", "block", "heads", "step", "query", "overlay", "map"].map((id) => [id, document.getElementById(id)]));
  const shown = images.filter((image) => image.maps);
  const tokens = grid[0] * grid[1];
  fill(at.image, shown.map((image) => `${image.name}${image.right ? "" : `, taken for ${image.answer}`}`));
  fill(at.block, [...blocks.map((block) => block.layer), "rollout to the input"]);
  fill(at.heads, [...(heads > 1 ? ["mean of all"] : []), ...Array.from({ length: heads }, (_, h) => `${h + 1}`)]);
  const picture = new Image();
  const paint = () => {
    const image = shown[at.image.value || 0];
    const [step, query, block] = [+at.step.value, +at.query.value, +at.block.value];
    const flows = block === blocks.length;
    document.getElementById("step-shown").textContent = `${step} of ${steps}`;
    document.getElementById("query-shown").textContent = query ? placeOf(query - 1, grid) : "all";
    document.getElementById("map-figure").hidden = at.heads.disabled = at.query.disabled = flows;
    let weights;
    if (flows) {
      const [bytes, unit] = image.rollout;
      weights = Float64Array.from(decodeBytes(bytes).subarray((step - 1) * tokens, step * tokens), (b) => b * unit);
    } else {
      const bytes = decodeBytes(image.maps[block][0]);
      const head = heads > 1 ? at.heads.value - 1 : 0;
      const of = (h) => (spiking ? coincidences(bytes, step - 1, h, heads, tokens, width / heads) : mapAt(bytes, step - 1, h, heads, tokens));
      const map = head < 0 ? meanOf(heads, of) : of(head);
      weights = lookedAt(sharesOf(map, tokens), tokens, query);
      const most = map.reduce((a, b) => Math.max(a, b), Number.MIN_VALUE);
      paintValues(at.map, map.map((count) => count / most), tokens, tokens);
      const unit = image.maps[block][1];
      at.map.setAttribute("aria-label", `Map of ${blocks[block].layer}, step ${step}: ${tokens} by ${tokens}, largest ${compact(most * unit)}`);
    }
    paintOver(at.overlay, picture, weights, grid, flows ? 0 : query);
    const says = `${flows ? "Rollout" : query ? `Token at ${placeOf(query - 1, grid)} attends` : "All tokens attend, on average,"} ${describe(weights, grid)}.`;
    at.overlay.setAttribute("aria-label", says);
    document.getElementById("attention-says").textContent = says;
  };
  const load = () => {
    picture.src = shown[at.image.value || 0].picture;
    picture.decode().then(paint);
  };
  for (const id of ["block", "heads", "step", "query"]) at[id].addEventListener("input", paint);
  at.image.addEventListener("input", load);
  at.overlay.addEventListener("click", (event) => {
    const [row, column] = [event.offsetY / at.overlay.clientHeight, event.offsetX / at.overlay.clientWidth];
    at.query.value = Math.floor(row * grid[0]) * grid[1] + Math.floor(column * grid[1]) + 1;
    paint();
  });
  painters.add(paint);
  load();
}

// One head's map [N, N] out of numbers [T, h, N, N].
function mapAt(all, step, head, heads, tokens) {
  const size = tokens * tokens;
  return Float64Array.from(all.subarray((step * heads + head) * size, (step * heads + head + 1) * size));
}

// The mean of all heads' maps.
function meanOf(heads, mapOf) {
  const sum = mapOf(0);
  for (let h = 1; h < heads; h++) mapOf(h).forEach((count, n) => (sum[n] += count));
  return sum.map((count) => count / heads);
}

// The same out of the bits of queries and keys [T, 2, h, N, d]: how many channels fired together.
function coincidences(bytes, step, head, heads, tokens, inHead) {
  const size = tokens * inHead;
  const bits = (which) => {
    const begin = ((step * 2 + which) * heads + head) * size;
    return Uint8Array.from({ length: size }, (_, n) => (bytes[(begin + n) >> 3] >> (7 - ((begin + n) & 7))) & 1);
  };
  const [q, k] = [bits(0), bits(1)];
  const map = new Float64Array(tokens * tokens);
  for (let i = 0; i < tokens; i++)
    for (let d = 0; d < inHead; d++)
      if (q[i * inHead + d]) for (let j = 0; j < tokens; j++) map[i * tokens + j] += k[j * inHead + d];
  return map;
}
