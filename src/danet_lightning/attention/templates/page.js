"use strict";
// N: positions, D: channels of queries and keys, h, w: size of the features, C: channels.
const data = JSON.parse(document.getElementById("payload").textContent);
const pictures = JSON.parse(document.getElementById("pictures").textContent);
const unpack = (text, Type = Uint8Array) =>
  new Type(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
const colors = unpack(data.colors);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const rounded = (value, digits = 3) => Number(value.toPrecision(digits));
// What is little is not nothing, and says so.
const least = (value, limit) => (value > 0 && value < limit ? `<${limit}` : rounded(value));
const percent = (share) => `${least(100 * share, 0.01)} %`;
const times = (value) => `${least(value, 0.001)}×`;
const className = (id) => (id === 255 ? "ignored" : data.classes[id]);

// Paint shares from 0 to 1 (a function of the pixel's number) in the colors of maps.
function paint(canvas, share) {
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < canvas.width * canvas.height; i++) {
    const color = 3 * Math.round(255 * clamp(share(i), 0, 1));
    pixels.data.set([colors[color], colors[color + 1], colors[color + 2], 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
}

// The value of the brightest color: of a percentile, but not below what all would have if they were alike, or where
// all attention goes to one place, the rest of next to nothing would shine.
function brightest(values, share, alike) {
  const sorted = Float64Array.from(values).sort();
  return Math.max(alike, sorted[Math.round((sorted.length - 1) * share)]);
}

// Where on an element an event is, as shares of its height and width.
function place(event, element) {
  const box = element.getBoundingClientRect();
  const part = (at, start, length) => clamp((at - start) / length, 0, 1 - 1e-9);
  return [part(event.clientY, box.top, box.height), part(event.clientX, box.left, box.width)];
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The steps of an arrow key, [down, right]; undefined for other keys.
const arrow = (event) =>
  ({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] })[event.key];

class PositionView {
  constructor(root, part) {
    this.find = (selector) => root.querySelector(selector);
    this.part = part;
    [this.h, this.w] = part.size;
    this.n = this.h * this.w;
    this.query = unpack(part.query, Float32Array);
    this.key = unpack(part.key, Float32Array);
    this.logSum = unpack(part.logSum, Float64Array);
    this.entropy = unpack(part.entropy, Float32Array);
    this.predicted = unpack(part.predicted);
    this.labelled = part.labelled && unpack(part.labelled);
    this.radios = [...root.querySelectorAll("input[type=radio]")];
    this.listen();
    paint(this.find(".ramp"), (i) => i / 255);
    this.choose(...data.point.map((at, axis) => (at + 0.5) / data.original_size[axis]));
  }

  listen() {
    const pick = this.find(".pick"), map = this.find(".map");
    const moved = (stage) => (event) => {
      const at = place(event, stage);
      if (this.find(".follow").checked) this.choose(...at);
      this.tell(...at);
    };
    for (const stage of [pick, map]) {
      stage.addEventListener("click", (event) => this.choose(...place(event, stage)));
      stage.addEventListener("pointermove", moved(stage));
      stage.addEventListener("pointerleave", () => this.tell(...this.at, "at the mark"));
    }
    pick.addEventListener("keydown", (event) => {
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const by = event.shiftKey ? 10 : 1;
      const [y, x] = [Math.floor(this.index / this.w), this.index % this.w];
      this.choose(
        (clamp(y + by * step[0], 0, this.h - 1) + 0.5) / this.h,
        (clamp(x + by * step[1], 0, this.w - 1) + 0.5) / this.w,
      );
    });
    for (const each of [...this.radios, this.find(".clip"), this.find(".root")])
      each.addEventListener("input", () => this.show());
    this.find(".strength").addEventListener("input", (event) => {
      this.find(".heat").style.opacity = event.target.value;
    });
    this.find(".heat").style.opacity = this.find(".strength").value;
    const shown = this.find(".shown"), image = this.find(".pick img");
    shown.addEventListener("input", () => {
      image.src = pictures[shown.value];
    });
  }

  positionAt(down, right) {
    return Math.floor(down * this.h) * this.w + Math.floor(right * this.w);
  }

  // softmax(query . key) over the keys for one query; for a column, over each query for one key.
  weights(index, isColumn) {
    const [one, all] = isColumn ? [this.key, this.query] : [this.query, this.key];
    const depth = this.part.depth, own = one.subarray(index * depth, (index + 1) * depth);
    const weights = new Float64Array(this.n);
    for (let i = 0; i < this.n; i++) {
      if (this.part.crissCross && this.isApart(i, index)) continue;
      let energy = 0;
      for (let d = 0, at = i * depth; d < depth; d++, at++) energy += own[d] * all[at];
      weights[i] = Math.exp(energy - this.logSum[isColumn ? i : index]);
    }
    return weights;
  }

  isApart(one, other) {
    return one % this.w !== other % this.w && Math.floor(one / this.w) !== Math.floor(other / this.w);
  }

  choose(down, right) {
    this.at = [down, right];
    this.index = this.positionAt(down, right);
    for (const marker of [this.find(".pick .marker"), this.find(".map .marker")])
      Object.assign(marker.style, { top: `${100 * down}%`, left: `${100 * right}%` });
    const [y, x] = this.at.map((share, axis) => Math.floor(share * data.original_size[axis]));
    const label = this.labelled ? `, label ${className(this.labelled[this.index])}` : "";
    this.find(".chosen").textContent =
      `pixel y ${y}, x ${x}: predicted ${className(this.predicted[this.index])}${label}`;
    this.show();
  }

  show() {
    this.mode = this.radios.find((radio) => radio.checked).value;
    const isEntropy = this.mode === "entropy";
    const clip = this.find(".clip"), root = this.find(".root");
    clip.disabled = root.disabled = isEntropy;
    this.find(".clipped").textContent = clip.value;
    this.values = this.weights(this.index, this.mode === "column");
    if (isEntropy) {
      const most = Math.log(this.n) || 1;
      paint(this.find(".heat"), (i) => this.entropy[i] / most);
      this.find(".least").textContent = "looks at 1 position";
      this.find(".most").textContent = `at all ${this.n} alike`;
    } else {
      const most = brightest(this.values, clip.value / 100, 1 / this.n);
      const scale = root.checked ? Math.sqrt : (share) => share;
      paint(this.find(".heat"), (i) => scale(this.values[i] / most));
      this.find(".least").textContent = "0";
      this.find(".most").textContent = `${times(most * this.n)} 1/N and more`;
    }
    this.showBars();
    this.tell(...this.at, "at the mark");
  }

  tell(down, right, where = "under the cursor") {
    const i = this.positionAt(down, right), of = className(this.predicted[i]);
    const value = `${times(this.n * this.values[i])} 1/N, ${percent(this.values[i])}`;
    const spread = rounded(Math.exp(this.entropy[i]));
    const text = {
      row: `${value} of the attention`,
      column: `${value} of its attention goes to the mark`,
      entropy: `its attention is as wide as ${spread} of ${this.n} positions alike (entropy ${this.entropy[i].toFixed(2)})`,
    }[this.mode];
    this.find(".under").textContent = `${where} (${of}): ${text}`;
  }

  // The share of the attention on each class, beside the share of the image.
  showBars() {
    const isColumn = this.mode === "column";
    const total = this.values.reduce((sum, value) => sum + value, 0) || 1;
    const shares = data.classes.map(() => 0), areas = data.classes.map(() => 0);
    this.predicted.forEach((id, i) => {
      shares[id] += this.values[i] / total;
      areas[id] += 1 / this.n;
    });
    this.shares = shares;
    this.find(".bars-title").textContent =
      (isColumn ? "Who looks at it, by predicted class" : "The share of its attention on each predicted class") +
      " (orange: share of the image)";
    const order = shares.map((_, id) => id).filter((id) => areas[id] > 0).sort((a, b) => shares[b] - shares[a]);
    this.find(".bars").replaceChildren(...order.map((id) => {
      const swatch = element("i");
      swatch.style.background = `rgb(${data.palette[id].join()})`;
      const filled = element("b"), area = element("s");
      filled.style.width = `${100 * shares[id]}%`;
      area.style.left = `${100 * areas[id]}%`;
      return element("li", {},
        element("span", { className: "name" }, swatch, className(id)),
        element("span", { className: "bar" }, filled, area),
        element("span", {}, `${percent(shares[id])}, ${times(shares[id] / areas[id])} its area`));
    }));
  }
}

class ChannelView {
  constructor(root, part) {
    this.find = (selector) => root.querySelector(selector);
    this.part = part;
    this.weights = unpack(part.weights, Float32Array);
    this.features = { before: unpack(part.before), after: unpack(part.after) };
    this.stage = this.find(".square");
    this.listen();
    paint(this.find(".ramp"), (i) => i / 255);
    this.draw();
    this.choose(part.chosen);
  }

  listen() {
    const rowAt = (share) => Math.floor(share * this.part.channels), order = this.part.order;
    const field = this.find(".channel");
    this.stage.addEventListener("click", (event) => this.choose(order[rowAt(place(event, this.stage)[0])]));
    this.stage.addEventListener("pointermove", (event) => {
      const [to, from] = place(event, this.stage).map((share) => order[rowAt(share)]);
      this.tell(to, from);
    });
    this.stage.addEventListener("keydown", (event) => {
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const next = order.indexOf(this.channel) + (step[0] || step[1]) * (event.shiftKey ? 10 : 1);
      this.choose(order[clamp(next, 0, this.part.channels - 1)]);
    });
    field.addEventListener("input", () => {
      const channel = field.valueAsNumber;
      if (Number.isInteger(channel) && channel >= 0 && channel < this.part.channels) this.choose(channel);
    });
    this.find(".clip").addEventListener("input", () => this.draw());
  }

  // The whole map, sorted; a square-root scale shows the small weights, too.
  draw() {
    const { channels, order } = this.part;
    const most = brightest(this.weights, this.find(".clip").value / 100, 1 / channels);
    paint(this.find(".heat"), (i) =>
      Math.sqrt(this.weights[order[Math.floor(i / channels)] * channels + order[i % channels]] / most));
    this.find(".most").textContent = `${rounded(most, 2)} and more`;
  }

  row(channel) {
    return this.weights.subarray(channel * this.part.channels, (channel + 1) * this.part.channels);
  }

  tell(to, from) {
    this.find(".under").textContent = `channel ${to} mixes ${percent(this.row(to)[from])} of channel ${from}`;
  }

  paintFeatures(canvas, which, channel) {
    const [h, w] = this.part.size, start = channel * h * w;
    paint(canvas, (i) => this.features[which][start + i] / 255);
    return canvas;
  }

  choose(channel) {
    const { order, channels, size: [h, w], low, high } = this.part;
    this.channel = channel;
    this.find(".channel").value = channel;
    this.find(".line").style.top = `${(100 * (order.indexOf(channel) + 0.5)) / channels}%`;
    this.paintFeatures(this.find(".before"), "before", channel);
    this.paintFeatures(this.find(".after"), "after", channel);
    this.find(".range").textContent =
      `Both on one scale, from ${low[channel].toPrecision(3)} (dark) to ${high[channel].toPrecision(3)} (bright).`;
    const row = this.row(channel);
    const strongest = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, 8);
    this.find(".mixed").replaceChildren(...strongest.map((other) => {
      const canvas = this.paintFeatures(element("canvas", { width: w, height: h }), "before", other);
      const button = element("button", { type: "button", onclick: () => this.choose(other) },
        canvas, `${other}: ${percent(row[other])}`);
      return element("li", {}, button);
    }));
    this.tell(channel, strongest[0]);
  }
}

const views = [...document.querySelectorAll("section[data-part]")].map((root) => {
  const part = data.parts[root.dataset.part];
  return part.kind === "position" ? new PositionView(root, part) : new ChannelView(root, part);
});
