// A feature's activations as a small histogram with a logarithmic count axis.

import "./histogram.css";
import { h } from "../dom";
import { formatCount, formatNumber } from "../numbers";
import { drawAxes, PlotArea } from "./axes";
import { countScale, linearTicks } from "./scale";
import { bars } from "./series";

const WIDTH = 360;
const HEIGHT = 176;
const AREA = new PlotArea(48, 8, WIDTH - 56, HEIGHT - 46);

export function histogram(edges: readonly number[], counts: readonly number[]): HTMLElement {
  const total = counts.reduce((a, b) => a + b, 0);
  const high = edges[edges.length - 1] ?? 0;
  if (total === 0 || !(high > 0)) return h("p", { class: "sk-empty" }, "No activations to draw.");
  const y = countScale(Math.max(...counts));
  const xTicks = linearTicks(0, high).map((value) => ({ position: value / high, label: formatNumber(value) }));
  const picture = drawAxes(AREA, WIDTH, HEIGHT, { xTicks, xTitle: "activation", y, yTitle: "tokens (log scale)" });
  const label = `Histogram of ${formatCount(total)} activations from 0 to ${formatNumber(high)}, counts on a logarithmic scale`;
  for (const [name, value] of [
    ["class", "sk-histogram"],
    ["role", "img"],
    ["aria-label", label],
  ] as const)
    picture.setAttribute(name, value);
  const title = (i: number) => `${formatNumber(edges[i])} to ${formatNumber(edges[i + 1])}: ${formatCount(counts[i])}`;
  const x = edges.map((edge) => edge / high);
  picture.append(...bars(x, counts, y, AREA, title));
  return h("figure", { class: "sk-figure" }, picture);
}
