// Charts drawn as SVG. Each is a figure with a caption, a drawing, a legend that also shows values, and a table of the
// same numbers as an alternative. Arrow keys move between values.
import { clock, moment } from "./format.js";

const NS = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === undefined || value === null) continue;
    if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function shape(name, attributes = {}, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function table(heads, rows) {
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element(
      "tbody",
      {},
      ...rows.map(([first, ...cells]) =>
        element("tr", {}, element("th", { scope: "row" }, first), ...cells.map((cell) => element("td", {}, cell))),
      ),
    ),
  );
}

class Chart {
  constructor(host, title, note, height = 230) {
    this.height = height;
    this.svg = shape("svg", { role: "img", height });
    this.caption = element("span", {}, note);
    this.key = element("ul", { class: "key" });
    this.scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}: table` });
    this.details = element("details", {}, element("summary", {}, "Table"), this.scroll);
    this.empty = element("p", { class: "nothing", hidden: true });
    this.title = title;
    host.replaceChildren(
      element("figure", {}, element("figcaption", {}, element("b", {}, title), this.caption), this.svg, this.empty, this.key, this.details),
    );
    this.details.addEventListener("toggle", () => this.tabulate());
    new ResizeObserver(() => this.redraw()).observe(this.svg);
  }

  show(model, nothing = "") {
    this.model = model;
    const isEmpty = nothing !== "";
    for (const part of [this.svg, this.key, this.details]) part.toggleAttribute("hidden", isEmpty);
    this.empty.hidden = !isEmpty;
    this.empty.textContent = nothing;
    this.isEmpty = isEmpty;
    if (isEmpty) return;
    this.redraw();
    this.tabulate();
  }

  redraw() {
    this.width = this.svg.clientWidth;
    if (!this.model || this.isEmpty || this.width < 40) return;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    this.svg.replaceChildren();
    this.draw();
    this.svg.setAttribute("aria-label", `${this.title}. ${this.summary()}`);
  }

  tabulate() {
    if (this.details.open && this.model && !this.isEmpty) this.scroll.replaceChildren(table(...this.rows()));
  }

  add(name, attributes, text) {
    const made = shape(name, attributes, text);
    this.svg.append(made);
    return made;
  }
}

// Curves or stacked areas over time. Series: {name, cls, values, dash, flat}; bands: {cls, low, high}.
export class TimeChart extends Chart {
  constructor(host, title, note, format, options = {}) {
    super(host, title, note, options.height);
    this.format = format;
    this.options = options;
    this.at = null;
    this.svg.setAttribute("tabindex", "0");
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.move(null));
    this.svg.addEventListener("blur", () => {
      this.key.removeAttribute("aria-live");
      this.move(null);
    });
    this.svg.addEventListener("keydown", (event) => this.press(event));
  }

  draw() {
    const { starts, width, series, bands = [] } = this.model;
    const left = 52;
    const bottom = this.height - 24;
    const values = [...series.flatMap((one) => one.values), ...bands.flatMap((band) => [band.low, band.high])].filter((value) => value !== null);
    let low = this.options.zero || this.options.stacked ? 0 : Math.min(...values);
    let high = this.options.stacked ? 1 : Math.max(...values, low);
    if (!this.options.stacked) {
      const room = (high - low || Math.abs(high) || 1) * 0.08;
      high += room;
      if (!this.options.zero) low = Math.max(low - room, this.options.least ?? -Infinity);
      if (this.options.most !== undefined) high = Math.min(high, Math.max(this.options.most, low + room));
    }
    const end = starts[starts.length - 1] + width;
    const right = this.width - 10;
    this.x = (index) => (starts.length < 2 ? (left + right) / 2 : left + ((right - left) * index) / (starts.length - 1));
    this.y = (value) => bottom - ((bottom - 8) * (value - low)) / (high - low || 1);
    for (const tick of ticks(low, high)) {
      const y = this.y(tick);
      this.add("line", { class: "grid", x1: left, x2: right, y1: y, y2: y });
      this.add("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, this.format(tick));
    }
    const labels = Math.max(2, Math.min(6, Math.floor((right - left) / 95)));
    for (let number = 0; number < labels && starts.length > 1; number += 1) {
      const index = Math.round((number * (starts.length - 1)) / (labels - 1));
      const anchor = number === 0 ? "start" : number === labels - 1 ? "end" : "middle";
      this.add("text", { x: this.x(index), y: this.height - 5, "text-anchor": anchor }, clock(starts[index], end - starts[0]));
    }
    for (const band of bands) {
      const [top, base] = [this.y(Math.min(band.high, high)), this.y(Math.max(band.low, low))];
      this.add("rect", { class: `band ${band.cls}`, x: left, width: right - left, y: top, height: Math.max(0, base - top) });
    }
    if (this.options.stacked) this.drawAreas(series);
    else for (const one of series) this.drawLine(one, left, right);
    this.cursor = this.add("line", { class: "cursor", y1: 8, y2: bottom, visibility: "hidden" });
    this.move(this.at);
  }

  drawLine(one, left, right) {
    if (one.flat) {
      const y = this.y(one.values[0]);
      this.add("line", { class: `line dash ${one.cls}`, x1: left, x2: right, y1: y, y2: y });
      return;
    }
    let path = "";
    let isDown = false;
    one.values.forEach((value, index) => {
      if (value === null) return;
      const alone = (one.values[index - 1] ?? null) === null && (one.values[index + 1] ?? null) === null;
      if (alone) this.add("circle", { class: `dot ${one.cls}`, cx: this.x(index), cy: this.y(value), r: 2.4 });
      path += `${isDown ? "L" : "M"}${this.x(index).toFixed(1)} ${this.y(value).toFixed(1)}`;
      isDown = true;
    });
    this.add("path", { class: `line ${one.cls}${one.dash ? " dash" : ""}`, d: path });
  }

  drawAreas(series) {
    const count = this.model.starts.length;
    const isKnown = (index) => series.some((one) => one.values[index] !== null);
    for (let first = 0; first < count; first += 1) {
      if (!isKnown(first)) continue;
      let last = first;
      while (last + 1 < count && isKnown(last + 1)) last += 1;
      this.drawStretch(series, first, last);
      first = last;
    }
  }

  // A stretch without data is a gap; a single point gets some width.
  drawStretch(series, first, last) {
    const indices = Array.from({ length: last - first + 1 }, (_, step) => first + step);
    const places = first === last ? [this.x(first - 0.3), this.x(first + 0.3)] : indices.map((index) => this.x(index));
    const base = places.map(() => 0);
    const edge = () => base.map((value, step) => `${places[step].toFixed(1)} ${this.y(value).toFixed(1)}`);
    for (const one of series) {
      const lower = edge();
      base.forEach((value, step) => (base[step] = value + (one.values[indices[Math.min(step, indices.length - 1)]] ?? 0)));
      this.add("path", { class: `area ${one.cls}`, d: `M${lower.join("L")}L${edge().reverse().join("L")}Z` });
    }
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const count = this.model.starts.length;
    const share = (event.clientX - box.left - 52) / (this.width - 62);
    this.move(Math.max(0, Math.min(count - 1, Math.round(share * (count - 1)))));
  }

  press(event) {
    const last = this.model.starts.length - 1;
    const from = this.at ?? last;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.key.setAttribute("aria-live", "polite");
    this.move(Math.max(0, Math.min(last, to)));
  }

  move(index) {
    if (!this.cursor) return;
    const { starts, series } = this.model;
    this.at = index === null ? null : Math.min(index, starts.length - 1);
    this.cursor.setAttribute("visibility", this.at === null ? "hidden" : "visible");
    if (this.at !== null) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(this.at));
    const when = this.at === null ? null : element("li", { class: "when" }, moment(starts[this.at]));
    this.key.replaceChildren(
      ...series.map((one) => {
        const value = one.flat ? one.values[0] : this.at === null ? latest(one.values) : one.values[this.at];
        return element("li", { class: one.cls }, element("i", { class: one.dash || one.flat ? "thin" : "" }), one.name, element("b", {}, this.format(value)));
      }),
      ...(when ? [when] : []),
    );
  }

  summary() {
    const { series } = this.model;
    return `Newest: ${series.map((one) => `${one.name} ${this.format(one.flat ? one.values[0] : latest(one.values))}`).join(", ")}.`;
  }

  rows() {
    const { starts, width, series } = this.model;
    const spanMs = starts[starts.length - 1] + width - starts[0];
    return [
      ["From", ...series.map((one) => one.name)],
      starts.map((start, index) => [clock(start, spanMs), ...series.map((one) => this.format(one.flat ? one.values[0] : one.values[index]))]),
    ];
  }
}

// One row per thing: a dot with its interval. Rows: {name, cls, mean, low, high, note}.
export class IntervalChart extends Chart {
  constructor(host, title, note, format, options = {}) {
    super(host, title, note);
    this.format = format;
    this.options = options;
  }

  draw() {
    const { rows } = this.model;
    const step = Math.max(40, Math.min(52, 250 / rows.length));
    this.height = rows.length * step + 34;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    const left = 10;
    const right = this.width - 10;
    const ends = rows.flatMap((row) => [row.low, row.high, row.mean]).filter((value) => value !== null);
    let low = Math.min(...ends);
    let high = Math.max(...ends);
    if (this.options.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    if (this.options.least !== undefined) low = Math.max(low, this.options.least);
    if (this.options.most !== undefined) high = Math.min(high, this.options.most);
    const room = (high - low || 1) * 0.04;
    const x = (value) => left + ((right - left) * (Math.max(low, Math.min(high, value)) - low + room)) / (high - low + 2 * room);
    const base = rows.length * step + 6;
    for (const tick of ticks(low, high, Math.max(4, Math.floor(this.width / 110)))) {
      this.add("line", { class: this.options.zero && tick === 0 ? "zero" : "grid", x1: x(tick), x2: x(tick), y1: 2, y2: base });
      this.add("text", { x: x(tick), y: this.height - 6, "text-anchor": "middle" }, this.format(tick));
    }
    rows.forEach((row, index) => {
      const y = index * step + 28;
      this.add("text", { class: "name", x: left, y: y - 12 }, this.width < 420 ? (row.short ?? row.name) : row.name);
      this.add("text", { class: "strong", x: right, y: y - 12, "text-anchor": "end" }, row.note);
      if (row.low !== null) this.add("line", { class: `whisker ${row.cls}`, x1: x(row.low), x2: x(row.high), y1: y, y2: y });
      this.add("circle", { class: `dot ${row.cls}`, cx: x(row.mean), cy: y, r: 5 });
    });
  }

  summary() {
    return this.model.rows.map((row) => `${row.name} ${row.note}`).join("; ");
  }

  rows() {
    const { rows } = this.model;
    const cell = (value) => (value === null ? "–" : this.format(value));
    return [["", "mean", "from", "to"], rows.map((row) => [row.name, cell(row.mean), cell(row.low), cell(row.high)])];
  }
}

// Filled bars from 0 to 1. Rows: {name, cls, value, note}.
export class BarChart extends Chart {
  constructor(host, title, note, format) {
    super(host, title, note);
    this.format = format;
  }

  draw() {
    const { rows } = this.model;
    const step = 34;
    this.height = rows.length * step + 6;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    rows.forEach((row, index) => {
      const y = index * step + 18;
      this.add("text", { class: "name", x: 10, y: y - 4 }, row.name);
      this.add("text", { class: "strong", x: this.width - 10, y: y - 4, "text-anchor": "end" }, row.note);
      this.add("rect", { class: "bar-track", x: 10, y, width: this.width - 20, height: 7, rx: 3.5 });
      this.add("rect", { class: `bar-fill ${row.cls}`, x: 10, y, width: Math.max(0, (this.width - 20) * Math.min(1, row.value ?? 0)), height: 7, rx: 3.5 });
    });
  }

  summary() {
    return this.model.rows.map((row) => `${row.name} ${row.note}`).join("; ");
  }

  rows() {
    return [["", "share", ""], this.model.rows.map((row) => [row.name, this.format(row.value), row.note])];
  }
}

// Quality over cost, cost on a logarithmic scale. Points: {name, cls, x, y, xLow, xHigh, yLow, yHigh, own}; mix: [[x, y]].
export class FrontierChart extends Chart {
  constructor(host, title, note, formatX, formatY) {
    super(host, title, note, 300);
    this.formatX = formatX;
    this.formatY = formatY;
  }

  draw() {
    const { points, mix } = this.model;
    const left = 46;
    const right = this.width - 14;
    const bottom = this.height - 38;
    const logs = points.map((point) => Math.log10(point.x));
    const roomX = Math.max(0.15, (Math.max(...logs) - Math.min(...logs)) * 0.14);
    const [xLow, xHigh] = [Math.min(...logs) - roomX, Math.max(...logs) + roomX];
    const ys = points.map((point) => point.y);
    const roomY = Math.max(0.02, (Math.max(...ys) - Math.min(...ys)) * 0.3);
    const [yLow, yHigh] = [Math.max(0, Math.min(...ys) - roomY), Math.min(1, Math.max(...ys) + roomY)];
    const clampX = (value) => Math.max(xLow, Math.min(xHigh, value));
    const x = (value) => left + ((right - left) * (clampX(value > 0 ? Math.log10(value) : xLow) - xLow)) / (xHigh - xLow);
    const y = (value) => bottom - ((bottom - 10) * (Math.max(yLow, Math.min(yHigh, value)) - yLow)) / (yHigh - yLow || 1);
    for (const tick of ticks(yLow, yHigh)) {
      this.add("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) });
      this.add("text", { x: left - 7, y: y(tick) + 4, "text-anchor": "end" }, this.formatY(tick));
    }
    for (const tick of decades(xLow, xHigh, this.width < 420 ? 3 : 6)) {
      this.add("text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, this.formatX(tick));
    }
    this.add("text", { x: (left + right) / 2, y: this.height - 3, "text-anchor": "middle" }, "cost of 1,000 requests →");
    const curve = mixed(mix, 40).map(([cost, value]) => `${x(cost).toFixed(1)} ${y(value).toFixed(1)}`);
    if (curve.length > 1) this.add("path", { class: "line dash plain", d: `M${curve.join("L")}` });
    for (const point of points) {
      const [px, py] = [x(point.x), y(point.y)];
      if (point.yLow !== null) this.add("line", { class: `whisker faint ${point.cls}`, x1: px, x2: px, y1: y(point.yLow), y2: y(point.yHigh) });
      if (point.xLow !== null) this.add("line", { class: `whisker faint ${point.cls}`, x1: x(point.xLow), x2: x(point.xHigh), y1: py, y2: py });
    }
    const taken = points.map((point) => box(x(point.x) - 7, y(point.y) - 7, 14, 14));
    const inOrder = [...points].sort((one, other) => Number(other.own) - Number(one.own));
    for (const point of inOrder) {
      const [px, py] = [x(point.x), y(point.y)];
      this.add("circle", { class: `dot ${point.cls}`, cx: px, cy: py, r: point.own ? 7.5 : 5.5 });
      const long = 6.9 * point.name.length;
      const places = [[px + 12, py + 4], [px - 12 - long, py + 4], [px - long / 2, py - 12], [px - long / 2, py + 21], [px + 12, py - 12], [px + 12, py + 20], [px - 12 - long, py - 12], [px - 12 - long, py + 20]];
      const inside = places.filter(([tx]) => tx >= left - 4 && tx + long <= this.width);
      const free = inside.find(([tx, ty]) => !taken.some((other) => overlap(box(tx, ty - 11, long, 14), other)));
      const [tx, ty] = free ?? inside[0] ?? places[0];
      taken.push(box(tx, ty - 11, long, 14));
      this.add("text", { class: point.own ? "strong" : "name", x: tx, y: ty }, point.name);
    }
  }

  summary() {
    return this.model.points.map((point) => `${point.name}: quality ${this.formatY(point.y)} at ${this.formatX(point.x)}`).join("; ");
  }

  rows() {
    const range = (low, high, format) => (low === null ? "–" : `${format(Math.max(0, low))} to ${format(high)}`);
    return [
      ["", "cost of 1,000", "95 % interval", "quality", "95 % interval"],
      this.model.points.map((point) => [point.name, this.formatX(point.x), range(point.xLow, point.xHigh, this.formatX), this.formatY(point.y), range(point.yLow, point.yHigh, this.formatY)]),
    ];
  }
}

export function sparkline(values, cls) {
  const svg = shape("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return svg;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const path = values
    .map((value, index) => [(100 * index) / (values.length - 1), value])
    .filter(([, value]) => value !== null)
    .map(([x, value]) => `${x.toFixed(1)} ${(27 - (24 * (value - low)) / (high - low || 1)).toFixed(1)}`);
  svg.append(shape("path", { class: `line ${cls}`, d: `M${path.join("L")}`, "vector-effect": "non-scaling-stroke" }));
  return svg;
}

export const latest = (values) => values.findLast((value) => value !== null) ?? null;

function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number += 1) found.push(number * step);
  return found;
}

function decades(low, high, most) {
  const all = [];
  for (let power = Math.floor(low); power <= high; power += 1) for (const digit of [1, 2, 5]) all.push(digit * 10 ** power);
  let found = all.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
  if (found.length > most) found = found.filter((value) => /^[^1-9]*1/.test(value.toPrecision(1)));
  return found;
}

// A mix of two deployments is a straight line in cost, which is a curve on a logarithmic scale.
function mixed(corners, steps) {
  const found = [];
  for (let index = 0; index + 1 < corners.length; index += 1) {
    const [[x0, y0], [x1, y1]] = [corners[index], corners[index + 1]];
    for (let step = 0; step <= steps; step += 1) found.push([x0 + ((x1 - x0) * step) / steps, y0 + ((y1 - y0) * step) / steps]);
  }
  return found;
}

const box = (left, top, width, height) => ({ left, right: left + width, top, bottom: top + height });
const overlap = (one, other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
