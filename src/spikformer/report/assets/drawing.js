// A pad to draw on, and what the network makes of it.

// Far above what the order of a sum changes.
const ROUNDING = 1e-9;

function showDrawing(exported, examples) {
  if (!exported) return null;
  const network = loadNetwork(exported);
  const { side, steps, classes, blocks } = network;
  const at = Object.fromEntries(
    ["pad", "clear", "play", "draw-step", "draw-step-shown", "draw-block", "draw-head", "draw-attention", "answer", "shares", "layers", "margin"]
      .map((id) => [id, document.getElementById(id)]),
  );
  const pixels = new Uint8ClampedArray(side * side);
  let found = null;
  let cursor = null;
  fill(at["draw-block"], blocks.map((block) => block.name));
  fill(at["draw-head"], ["mean of all", ...Array.from({ length: blocks[0].heads }, (_, h) => `${h + 1}`)]);

  const panels = new Map();
  const panelOf = (layer) => {
    if (!panels.has(layer)) {
      const canvas = make("canvas", { role: "img" });
      const caption = make("figcaption");
      at.layers.append(make("figure", {}, [canvas, caption]));
      panels.set(layer, { canvas, caption });
    }
    return panels.get(layer);
  };

  const paintPad = () => {
    paintGray(at.pad, pixels, side);
    if (!cursor || document.activeElement !== at.pad) return;
    const context = at.pad.getContext("2d");
    context.fillStyle = "rgba(0, 229, 255, 0.7)";
    context.fillRect(cursor[0], cursor[1], 1, 1);
  };
  const paint = () => {
    paintPad();
    const step = +at["draw-step"].value;
    at["draw-step-shown"].textContent = `${step} of ${steps}`;
    for (const [layer, spikes] of Object.entries(found.spikes)) paintLayer(panelOf(layer), layer, spikes[step - 1], found.shapes[layer]);
    paintAttention(step);
    sayAnswer(step);
  };
  const paintAttention = (step) => {
    const { heads } = blocks[0];
    const map = found.maps[at["draw-block"].value || 0][step - 1];
    const tokens = Math.sqrt(map.length / heads);
    const grid = [Math.sqrt(tokens), Math.sqrt(tokens)];
    const head = at["draw-head"].value - 1;
    const of = (h) => mapAt(map, 0, h, heads, tokens);
    const weights = lookedAt(sharesOf(head < 0 ? meanOf(heads, of) : of(head), tokens), tokens, 0);
    paintOver(at["draw-attention"], at.pad, weights, grid, 0);
    at["draw-attention"].setAttribute("aria-label", `Attention over the drawing: ${describe(weights, grid)}`);
    document.getElementById("draw-attention-says").textContent = `All tokens attend, on average, ${describe(weights, grid)}.`;
  };
  const sayAnswer = (step) => {
    const shares = sharesAfter(found.logits, step - 1);
    const best = shares.indexOf(Math.max(...shares));
    const blank = pixels.every((p) => p === 0);
    at.answer.textContent = blank ? "Draw a digit, or take an example." : `After step ${step}: ${classes[best]}, ${percent(shares[best])}`;
    paintShares(at.shares, classes, shares);
    at.margin.textContent =
      `Of potentials that sum weights, the nearest to its threshold is ${found.margin.toExponential(1)} away. ` +
      (found.margin > ROUNDING
        ? "Sums in another order differ by some 1e-13: these are the spikes of the model in float64, whoever adds them up."
        : "Sums in another order differ by some 1e-13, and a spike might with them.");
  };
  const run = () => {
    found = runNetwork(network, pixels);
    paint();
  };
  const stain = (x, y) => {
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) {
        const distance = Math.hypot(column + 0.5 - x, row + 0.5 - y);
        const ink = 255 * Math.min(1, Math.max(0, (2.8 - distance) / 2.5)); // soft, as the digits are
        pixels[row * side + column] = Math.max(pixels[row * side + column], Math.round(ink));
      }
  };
  const load = (image) => {
    pixels.set(image);
    run();
  };

  drawWithPointer(at.pad, side, (x, y) => (stain(x, y), soon(run)));
  at.pad.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    cursor ??= [side >> 1, side >> 1];
    if (moves[event.key]) cursor = cursor.map((v, n) => Math.min(side - 1, Math.max(0, v + moves[event.key][n])));
    else if (event.key === " ") stain(cursor[0] + 0.5, cursor[1] + 0.5);
    else if (event.key === "Delete" || event.key === "Backspace") pixels.fill(0);
    else return;
    event.preventDefault();
    run();
  });
  at.pad.addEventListener("blur", paintPad);
  at.clear.addEventListener("click", () => load(new Uint8Array(side * side)));
  for (const id of ["draw-step", "draw-block", "draw-head"]) at[id].addEventListener("input", paint);
  playSteps(at.play, at["draw-step"], steps, paint);
  offer(examples, side, load);
  painters.add(paint);
  load(examples.length ? decodeBytes(examples[0].pixels) : pixels);
  return { network, run: (image) => runNetwork(network, image), load, pixels, now: () => found };
}

function paintGray(canvas, pixels, side) {
  const image = new ImageData(side, side);
  pixels.forEach((p, n) => image.data.set([p, p, p, 255], 4 * n));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// All channels of a layer as tiles, a pixel apart.
function paintLayer({ canvas, caption }, layer, spikes, [channels, side]) {
  const across = Math.min(channels, Math.ceil(Math.sqrt(channels * 2.5)));
  const down = Math.ceil(channels / across);
  const [columns, rows] = [across * (side + 1) - 1, down * (side + 1) - 1];
  const values = new Float32Array(columns * rows).fill(-1);
  let fired = 0;
  spikes.forEach((spike, n) => {
    const channel = Math.floor(n / (side * side));
    const row = Math.floor(channel / across) * (side + 1) + Math.floor((n % (side * side)) / side);
    const column = (channel % across) * (side + 1) + (n % side);
    values[row * columns + column] = spike;
    fired += spike;
  });
  paintValues(canvas, values, columns, rows);
  caption.textContent = `${breakable(layer)}: ${fired.toLocaleString("en")} of ${spikes.length.toLocaleString("en")} fire`;
  canvas.setAttribute("aria-label", `Spikes of ${caption.textContent}`);
}

function paintShares(place, classes, shares) {
  barChart(place, {
    rows: classes.map((name, k) => ({ name, value: shares[k], shown: percent(shares[k]) })),
    highest: 1,
    says: `Probabilities: ${classes.map((name, k) => `${name} ${percent(shares[k])}`).join(", ")}`,
  });
}

// Strokes of mouse, pen or finger, as points in pixels of the image, a third of a pixel apart.
function drawWithPointer(pad, side, touch) {
  let last = null;
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * side, ((event.clientY - box.top) / box.height) * side];
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    last = place(event);
    touch(...last);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event);
    const pieces = Math.ceil(Math.hypot(next[0] - last[0], next[1] - last[1]) * 3);
    for (let n = 1; n <= pieces; n++) touch(...last.map((v, i) => v + ((next[i] - v) * n) / pieces));
    last = next;
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (last = null));
}

// Once for all calls before the next frame.
const waiting = new Set();
function soon(work) {
  if (waiting.has(work)) return;
  waiting.add(work);
  requestAnimationFrame(() => (waiting.delete(work), work()));
}

function playSteps(button, slider, steps, paint) {
  let timer = 0;
  const stop = () => (clearInterval(timer), (timer = 0), (button.textContent = "Play"));
  button.addEventListener("click", () => {
    if (timer) return stop();
    slider.value = 1;
    paint();
    button.textContent = "Stop";
    timer = setInterval(() => {
      if (+slider.value === steps) return stop();
      slider.value = +slider.value + 1;
      paint();
    }, 900);
  });
}

function offer(examples, side, load) {
  const place = document.getElementById("examples");
  for (const { name, pixels } of examples) {
    const image = decodeBytes(pixels);
    const canvas = make("canvas", { width: side, height: side });
    paintGray(canvas, image, side);
    const button = make("button", { type: "button", "aria-label": `Example: ${name}` }, canvas);
    button.addEventListener("click", () => load(image));
    place.append(button);
  }
}
