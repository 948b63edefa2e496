// Formatting of numbers, money and times.

const plain = new Intl.NumberFormat("en");

export const count = (value) => (value === null ? "–" : plain.format(Math.round(value)));
export const percent = (value, digits = 0) => (value === null ? "–" : `${(100 * value).toFixed(digits)} %`);
export const quality = (value) => (value === null ? "–" : value.toFixed(3));

export function share(value) {
  if (value === null) return "–";
  return percent(value, value !== 0 && Math.abs(value) < 0.1 ? 1 : 0);
}

export function money(value) {
  if (value === null) return "–";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size >= 1000) return `${sign}$${plain.format(Math.round(size))}`;
  if (size >= 0.995) return `${sign}$${size.toFixed(2)}`;
  return `${sign}$${trim(size.toPrecision(2))}`;
}

export function seconds(value) {
  if (value === null) return "–";
  if (value < 0.995) return `${Math.round(1000 * value)} ms`;
  return value < 100 ? `${value.toPrecision(3)} s` : `${Math.round(value)} s`;
}

export function span(value) {
  if (value === null) return "–";
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} days`;
}

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  return value < 1048576 ? `${(value / 1024).toFixed(0)} KB` : `${(value / 1048576).toFixed(1)} MB`;
}

const CLOCK = { hour: "2-digit", minute: "2-digit", hour12: false };
const DAY = { month: "short", day: "numeric" };

export function clock(ms, spanMs) {
  const options = spanMs > 172800000 ? DAY : spanMs > 86400000 ? { ...DAY, ...CLOCK } : spanMs < 600000 ? { ...CLOCK, second: "2-digit" } : CLOCK;
  return new Date(ms).toLocaleString("en", options);
}

export const moment = (ms) => new Date(ms).toLocaleString("en", { ...DAY, ...CLOCK, second: "2-digit" });

function trim(digits) {
  const value = Number(digits);
  return value < 1e-6 ? value.toExponential(1) : digits;
}
