// A feature's activations as a small SVG histogram with a logarithmic count axis.

import { h, svg } from "./dom";
import { count, number } from "./text";

const WIDTH = 360;
const HEIGHT = 176;
const LEFT = 48;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 38;

/** Round steps that give about `n` ticks from 0 to `max`. */
export function ticks(max: number, n = 4): number[] {
  if (!(max > 0)) return [0];
  const raw = max / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? raw;
  return Array.from({ length: Math.floor(max / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** Ticks of a logarithmic count axis up to `max`: powers of ten, thinned to about five; 1, 2, 5, 10 ... for small counts. */
export function decades(max: number): number[] {
  if (max < 50) return [1, 2, 5, 10, 20].filter((tick) => tick <= Math.max(1, max));
  const last = Math.floor(Math.log10(max));
  const step = Math.max(1, Math.ceil(last / 5));
  return Array.from({ length: Math.floor(last / step) + 1 }, (_, i) => 10 ** (i * step));
}

const short = (value: number): string =>
  value >= 1e6 ? `${value / 1e6}M` : value >= 1e4 ? `${value / 1e3}k` : value.toLocaleString("en-GB");

export function histogram(edges: readonly number[], counts: readonly number[]): HTMLElement {
  const total = counts.reduce((a, b) => a + b, 0);
  const high = edges[edges.length - 1] ?? 0;
  if (total === 0 || !(high > 0)) return h("p", { class: "sk-empty" }, "No activations to draw.");
  const most = Math.max(...counts);
  const marks = decades(most);
  const ceiling = Math.log10(Math.max(most, 2)) + 0.3; // one firing is a visible bar
  const x = (value: number) => LEFT + (value / high) * (WIDTH - LEFT - RIGHT);
  const y = (n: number) => HEIGHT - BOTTOM - (n > 0 ? ((Math.log10(n) + 0.3) / ceiling) * (HEIGHT - TOP - BOTTOM) : 0);
  const base = HEIGHT - BOTTOM;

  const label = `Histogram of ${count(total)} activations from 0 to ${number(high)}, counts on a logarithmic scale`;
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": label,
    class: "sk-histogram",
  });
  for (const n of marks) {
    picture.append(
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(n), y2: y(n), class: "sk-grid" }),
      svg("text", { x: LEFT - 5, y: y(n) + 3.5, "text-anchor": "end" }, short(n)),
    );
  }
  counts.forEach((n, i) => {
    if (n === 0) return;
    const [from, to] = [edges[i] ?? 0, edges[i + 1] ?? 0];
    const width = Math.max(1, x(to) - x(from) - 1);
    const bar = svg("rect", { x: x(from) + 0.5, y: y(n), width, height: base - y(n), class: "sk-bar" });
    bar.append(svg("title", {}, `${number(from)} to ${number(to)}: ${count(n)}`));
    picture.append(bar);
  });
  picture.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: base, y2: base, class: "sk-axis" }));
  for (const value of ticks(high)) {
    picture.append(
      svg("line", { x1: x(value), x2: x(value), y1: base, y2: base + 4, class: "sk-axis" }),
      svg("text", { x: x(value), y: base + 15, "text-anchor": "middle" }, number(value)),
    );
  }
  const middle = TOP + (base - TOP) / 2;
  picture.append(
    svg("text", { x: LEFT + (WIDTH - LEFT - RIGHT) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, "activation"),
    svg(
      "text",
      { x: 10, y: middle, "text-anchor": "middle", transform: `rotate(-90 10 ${middle})` },
      "tokens (log scale)",
    ),
  );
  return h("figure", { class: "sk-figure" }, picture as unknown as HTMLElement);
}
