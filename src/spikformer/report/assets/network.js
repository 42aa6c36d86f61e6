// The network in float64: what the page computes when a digit is drawn.
//
// Currents are sums of float32 weights in float64, so two orders of summation differ by some 1e-13.
// `margin` is the least distance of any potential from its threshold: while it is far above that,
// the spikes are those of the model, whoever adds them up. Attention counts are integers, exact.

function decodeFloats(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

// The exported network, with its tensors in place of their offsets.
function loadNetwork(exported) {
  const all = decodeFloats(exported.weights);
  const tensor = (at) => at && all.subarray(at[0], at[0] + at[1]);
  const layer = (l) => ({
    ...l,
    weight: inputsFirst(tensor(l.weight), l),
    bias: tensor(l.bias),
    norm: foldedNorm(l, tensor),
  });
  return {
    ...exported,
    weights: undefined,
    stem: exported.stem.map(layer),
    position: layer(exported.position),
    blocks: exported.blocks.map((b) => ({
      ...b,
      qkv: layer(b.qkv),
      proj: layer(b.proj),
      fc1: layer(b.fc1),
      fc2: layer(b.fc2),
    })),
    head: { weight: tensor(exported.head.weight), bias: tensor(exported.head.bias) },
  };
}

// From [out, in, k, k] to [in, k, k, out]: one input reaches its outputs in one stretch.
function inputsFirst(weight, { inputs, outputs, kernel }) {
  const area = kernel * kernel;
  const turned = new Float64Array(weight.length);
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++)
      for (let a = 0; a < area; a++)
        turned[(i * area + a) * outputs + o] = weight[(o * inputs + i) * area + a];
  return turned;
}

// The norm in evaluation, x * scale + shift, in PyTorch's order.
function foldedNorm(layer, tensor) {
  const [mean, variance, weight, bias] = layer.norm.map(tensor);
  const scale = weight.map((w, c) => (1 / Math.sqrt(variance[c] + layer.eps)) * w);
  return { scale, shift: bias.map((b, c) => b - mean[c] * scale[c]) };
}

// One step of convolution and norm, from [in, H, W] to [out, H, W].
function currents(layer, x, side) {
  const { outputs, kernel } = layer;
  const places = side * side;
  const reach = kernel >> 1;
  const sums = new Float64Array(places * outputs);
  for (let at = 0; at < x.length; at++) {
    if (x[at] === 0) continue;
    const channel = Math.floor(at / places);
    const row = Math.floor((at % places) / side);
    const column = at % side;
    for (let dy = 0; dy < kernel; dy++) {
      const outRow = row + reach - dy;
      if (outRow < 0 || outRow >= side) continue;
      for (let dx = 0; dx < kernel; dx++) {
        const outColumn = column + reach - dx;
        if (outColumn < 0 || outColumn >= side) continue;
        const to = (outRow * side + outColumn) * outputs;
        const from = ((channel * kernel + dy) * kernel + dx) * outputs;
        for (let o = 0; o < outputs; o++) sums[to + o] += x[at] * layer.weight[from + o];
      }
    }
  }
  const current = new Float64Array(sums.length);
  for (let o = 0; o < outputs; o++) {
    const bias = layer.bias ? layer.bias[o] : 0;
    for (let p = 0; p < places; p++)
      current[o * places + p] =
        (sums[p * outputs + o] + bias) * layer.norm.scale[o] + layer.norm.shift[o];
  }
  return current;
}

// Spikes of all steps, and the least distance of a potential from the threshold.
function fire(neuron, currentsOfSteps) {
  const { kind, tau, rate, threshold, v_reset } = neuron;
  const rest = v_reset ?? 0;
  const v = new Float64Array(currentsOfSteps[0].length).fill(rest);
  let margin = Infinity;
  const spikes = currentsOfSteps.map((current) => {
    const fired = new Uint8Array(v.length);
    for (let n = 0; n < v.length; n++) {
      let u = v[n];
      if (kind === "if") u += current[n];
      else if (kind === "lif") u += (current[n] - (u - rest)) / tau;
      else u += (current[n] - (u - rest)) * rate;
      margin = Math.min(margin, Math.abs(u - threshold));
      fired[n] = u >= threshold ? 1 : 0;
      if (fired[n]) u = v_reset === null ? u - threshold : v_reset;
      v[n] = u;
    }
    return fired;
  });
  return { spikes, margin };
}

// The largest of 3 x 3 with stride 2 and a border of one.
function pool(spikes, channels, side) {
  const half = (side + 1) >> 1;
  const pooled = new Uint8Array(channels * half * half);
  for (let at = 0; at < spikes.length; at++) {
    if (!spikes[at]) continue;
    const channel = Math.floor(at / (side * side));
    const row = Math.floor((at % (side * side)) / side);
    const column = at % side;
    for (const r of new Set([row >> 1, (row + 1) >> 1]))
      for (const c of new Set([column >> 1, (column + 1) >> 1]))
        if (r < half && c < half) pooled[(channel * half + r) * half + c] = 1;
  }
  return pooled;
}

// The largest of `width` neighbouring tokens, in place of spikes [D, N].
function poolTokens(spikes, tokens, width) {
  const reach = width >> 1;
  return spikes.map((_, at) => {
    const token = at % tokens;
    const begin = at - Math.min(reach, token);
    const end = at + Math.min(reach, tokens - 1 - token);
    return spikes.subarray(begin, end + 1).some(Boolean) ? 1 : 0;
  });
}

// One step of attention: how often each two tokens fire together, and what the values make of it.
function attend(qkv, { heads, width, scale, qk_pool }, tokens) {
  const part = width * tokens;
  let [q, k, v] = [0, 1, 2].map((n) => qkv.subarray(n * part, (n + 1) * part));
  if (qk_pool) [q, k] = [q, k].map((x) => poolTokens(x, tokens, qk_pool));
  const inHead = width / heads;
  const map = new Uint16Array(heads * tokens * tokens);
  const current = new Float64Array(part);
  for (let h = 0; h < heads; h++)
    for (let d = h * inHead; d < (h + 1) * inHead; d++)
      for (let i = 0; i < tokens; i++)
        if (q[d * tokens + i])
          for (let j = 0; j < tokens; j++)
            map[(h * tokens + i) * tokens + j] += k[d * tokens + j];
  for (let d = 0; d < width; d++) {
    const h = Math.floor(d / inHead);
    for (let i = 0; i < tokens; i++) {
      let count = 0;
      for (let j = 0; j < tokens; j++)
        count += map[(h * tokens + i) * tokens + j] * v[d * tokens + j];
      current[d * tokens + i] = count * scale;
    }
  }
  return { map, current };
}

// Pixels 0 to 255 as the data set normalises them, in float32.
function normalise(pixels, { mean, std }) {
  const f = Math.fround;
  return Float64Array.from(pixels, (p) => f(f(f(p / 255) - f(mean)) / f(std)));
}

// Everything the network does with one image.
// Gives spikes {layer: [T] of [C, H, W]}, shapes, maps {block: [T] of [h, N, N]}, logits [T][K], margin.
function runNetwork(network, pixels) {
  const found = { spikes: {}, shapes: {}, maps: [], logits: [], margin: Infinity };
  let side = network.side;
  const layerOf = (layer, inputs) => {
    const first = currents(layer, inputs[0], side);
    const all = inputs.map((x, t) => (t && x !== inputs[0] ? currents(layer, x, side) : first));
    return record(layer, all, layer.outputs, true);
  };
  const record = ({ name, neuron }, all, channels, rounded) => {
    const { spikes, margin } = fire(neuron, all);
    if (rounded) found.margin = Math.min(found.margin, margin);
    found.spikes[name] = spikes;
    found.shapes[name] = [channels, side];
    return spikes;
  };
  const add = (counts, spikes) => counts.map((x, t) => x.map((n, at) => n + spikes[t][at]));

  let x = Array(network.steps).fill(normalise(pixels, network));
  network.stem.forEach((stage, n) => {
    x = layerOf(stage, x);
    if (!network.pools[n]) return;
    x = x.map((spikes) => pool(spikes, stage.outputs, side));
    side = (side + 1) >> 1;
  });
  let counts = add(x, layerOf(network.position, x));
  const tokens = side * side;
  for (const block of network.blocks) {
    const products = layerOf(block.qkv, counts).map((qkv) => attend(qkv, block, tokens));
    found.maps.push(products.map((product) => product.map));
    const attended = record(block, products.map((p) => p.current), block.width, false);
    counts = add(counts, layerOf(block.proj, attended));
    counts = add(counts, layerOf(block.fc2, layerOf(block.fc1, counts)));
  }
  found.logits = counts.map((step) => classify(network.head, step, tokens));
  return found;
}

function classify({ weight, bias }, counts, tokens) {
  const width = counts.length / tokens;
  const pooled = Array.from({ length: width }, (_, d) =>
    counts.subarray(d * tokens, (d + 1) * tokens).reduce((a, b) => a + b, 0) / tokens,
  );
  return Array.from(bias, (b, k) => pooled.reduce((sum, p, d) => sum + p * weight[k * width + d], b));
}

// Probabilities of the mean of the logits up to a step.
function sharesAfter(logits, step) {
  const mean = logits[0].map((_, k) => {
    let sum = 0;
    for (let t = 0; t <= step; t++) sum += logits[t][k];
    return sum / (step + 1);
  });
  const highest = Math.max(...mean);
  const exps = mean.map((m) => Math.exp(m - highest));
  const total = exps.reduce((a, b) => a + b, 0);
  return exps.map((e) => e / total);
}
